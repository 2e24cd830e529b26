"""What the page about agents promises is there."""

from __future__ import annotations

import re
from pathlib import Path

from PIL import Image

from tests.sdk.agent.test_chat_integration_suite import NOT_RUN
from tests.sdk.agent.test_tools_whole import NAMES

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")


def test_every_example_is_shown() -> None:
    linked = set(re.findall(r"\(\.\./examples/agents/(\w+)\.py\)", PAGE))
    assert linked == {path.stem for path in (ROOT / "examples" / "agents").glob("*.py")}


def test_pictures_are_there_and_small() -> None:
    shown = set(re.findall(r"\((agents/\w+\.png)\)", PAGE))
    assert shown == {f"agents/{path.name}" for path in (ROOT / "docs" / "agents").iterdir()}
    for name in shown:
        path = ROOT / "docs" / name
        assert path.stat().st_size <= 60_000
        with Image.open(path) as picture:
            assert min(picture.size) >= 200


def test_every_tool_and_every_test_that_does_not_run_is_named() -> None:
    named = set(re.findall(r"`(\w+)`", PAGE))
    assert named >= NAMES
    assert named >= set(NOT_RUN)
