"""The README is executed: its examples, in order, in one folder, as a reader would."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SHELL = "\n".join(re.findall(r"```bash\n(.*?)```", README, re.DOTALL))
COMMANDS = re.findall(r"^(make \S+|visionllm .*)", SHELL, re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.fixture(scope="module")
def names() -> dict[str, object]:
    """What the examples have defined so far: later ones build on earlier ones."""
    return {"__name__": "readme"}


def test_there_are_five_examples() -> None:
    assert len(EXAMPLES) == 5


@pytest.mark.quality
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(
    number: int,
    folder: Path,
    names: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    exec(compile(EXAMPLES[number], f"README.md, example {number + 1}", "exec"), names)  # noqa: S102
    assert capsys.readouterr().out.strip(), "an example shows something"


def test_examples_leave_their_pictures(folder: Path) -> None:
    assert (folder / "found.png").stat().st_size > 1000


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    wanted = {command.split()[1] for command in COMMANDS if command.startswith("make ")}
    assert wanted == {"demo", "test"}
    assert wanted <= targets


def test_command_line(folder: Path) -> None:
    (command,) = [command for command in COMMANDS if command.startswith("visionllm ")]
    code = "from visionllm_sdk.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *shlex.split(command)[1:]],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tools'}:{ROOT / 'adapters'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert '"detections"' in done.stdout


def test_linked_files_exist() -> None:
    for target in re.findall(r"\]\((?!https?://)([^)]+)\)", README):
        assert (ROOT / target).exists(), target
