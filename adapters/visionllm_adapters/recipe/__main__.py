"""All stages in order: `python -m visionllm_adapters.recipe` (`make embedded`).

Every stage resumes where it was stopped, and one that has used its minutes is over at once; delete its
folder under `--runs` to train it anew.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

STAGES = {
    "vocabulary": (),
    "language": ("--minutes", "150"),
    "backbone": ("--minutes", "20"),
    "detector": ("--minutes", "120"),
    "pose": ("--minutes", "45"),
    "vision": ("--minutes", "40"),
    "generation": ("--minutes", "60"),
    "editing": ("--minutes", "60"),
    "joint": ("--minutes", "190", "--drawing", "0.25"),
    "mapper": ("--minutes", "15"),
    "export": (),
}
MODULES = {
    "vocabulary": "vocabulary",
    "export": "export",
    "generation": "train_diffusion",
    "editing": "train_diffusion",
}
"""Modules of stages that are not called `train_STAGE`."""


def command(stage: str, runs: Path, minutes: float | None) -> list[str]:
    """The command line of one stage; what earlier stages wrote is found under `runs`."""
    module = MODULES.get(stage, f"train_{stage}")
    line = [sys.executable, "-m", f"visionllm_adapters.recipe.{module}", *STAGES[stage]]
    inputs = {
        "vocabulary": ["--out", str(runs / "vocabulary")],
        "export": ["--runs", str(runs)],
        "language": ["--vocabulary", str(runs / "vocabulary" / "tokenizer.model")],
        "backbone": [],
        "detector": ["--backbone", _last(runs, "backbone")],
        "pose": ["--detector", _last(runs, "detector")],
        "vision": ["--detector", _last(runs, "detector"), "--language", _last(runs, "language")],
        "generation": [],
        "editing": ["--editing"],
        "joint": [
            "--vocabulary",
            str(runs / "vocabulary" / "tokenizer.model"),
            "--language",
            _last(runs, "language"),
            "--vision",
            _last(runs, "vision"),
            "--detector",
            _last(runs, "detector"),
            "--pose",
            _last(runs, "pose"),
            "--generation",
            _last(runs, "generation"),
            "--editing",
            _last(runs, "editing"),
        ],
        "mapper": [
            "--vocabulary",
            str(runs / "vocabulary" / "tokenizer.model"),
            "--student",
            _last(runs, "joint"),
            "--generation",
            _last(runs, "generation"),
            "--editing",
            _last(runs, "editing"),
        ],
    }
    line += inputs[stage]
    if module.startswith("train_"):
        line += ["--out", str(runs / stage)]
        if minutes is not None:
            line += ["--minutes", str(minutes)]
    return line


def _last(runs: Path, stage: str) -> str:
    return str(runs / stage / "last.pt")


def main() -> None:
    """Run the stages; the first that fails ends the run with its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, default=Path("runs/embedded"))
    parser.add_argument("--only", choices=list(STAGES), action="append", help="run these stages only")
    parser.add_argument("--minutes", type=float, help="budget of every training stage instead of its own")
    arguments = parser.parse_args()
    for stage in arguments.only or STAGES:
        print(f"== {stage}", flush=True)
        done = subprocess.run(command(stage, arguments.runs, arguments.minutes), check=False)
        if done.returncode:
            sys.exit(done.returncode)


if __name__ == "__main__":
    main()
