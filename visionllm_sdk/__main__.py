"""``python -m visionllm_sdk`` is the command line."""

from __future__ import annotations

from visionllm_sdk.cli import main

if __name__ == "__main__":
    main()
