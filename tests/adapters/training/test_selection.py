"""What learns: by preset, and by what is taught."""

from __future__ import annotations

from pathlib import Path

import pytest

from visionllm_adapters.training.curriculum import LESSONS
from visionllm_adapters.training.selection import prepare
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_sdk import VisionLLM

READ = {"vqa", "caption", "describe", "classify", "segment_regions"}


@pytest.mark.parametrize(
    ("preset", "reads", "learns"),
    [
        ("light", True, False),
        ("standard", False, False),
        ("standard", True, True),
        ("full", False, True),
    ],
)
def test_the_bridge_learns_where_words_are_read_off_the_picture(
    tiny_checkpoint: Path, preset: str, reads: bool, learns: bool
) -> None:
    model = VisionLLM.from_pretrained(tiny_checkpoint).engine.model
    learning = prepare(model, FinetuneSettings(preset=preset), ["detect"], reads=reads)
    assert any(key.startswith("vl_bridge.") for key in learning.whole) is learns
    assert any(parameter.requires_grad for parameter in model.core.vl_bridge.parameters()) is learns


def test_every_skill_says_whether_it_reads() -> None:
    assert {name for name, lesson in LESSONS.items() if lesson.reads} == READ
    assert all(lesson.reads for lesson in LESSONS.values() if lesson.regions)
