"""The command line: ``visionllm detect scene.png --labels "red circle,star"``.

Every command calls the typed method of the same name and shows its result: as a table for people, or with
``--json`` as the same object and nothing else on standard output. Progress and messages go to standard error.
"""

from __future__ import annotations

from visionllm_sdk.cli.entry import main

__all__ = ["main"]
