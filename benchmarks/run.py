"""Runs every benchmark of this folder, one after another, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ASKED_FOR = ("adapters", "gpu", "narrower")
"""Need a choice on the command line or a device, or tell nothing of what is shipped: they are run by hand."""


def main() -> int:
    """Prints what each benchmark prints under its name; the exit code is that of the first that failed."""
    failed = 0
    for script in sorted(Path(__file__).parent.glob("*.py")):
        if script.name == Path(__file__).name or script.stem in ASKED_FOR:
            continue
        print(f"== {script.stem}", flush=True)
        code = subprocess.run([sys.executable, str(script)], check=False).returncode
        failed = failed or code  # the others run all the same
    return failed


if __name__ == "__main__":
    sys.exit(main())
