from __future__ import annotations

from random import Random

import pytest

from visionllm_adapters.recipe.dialogues import ALL_MAKERS, Curriculum, dialogue
from visionllm_adapters.recipe.symbols import random_scene


@pytest.mark.parametrize("kind", ["pose", "whole_pose"])
def test_of_poses_it_is_told_whose_they_are(kind: str) -> None:
    told = []
    for seed in range(200):
        rng = Random(seed)
        turns = dialogue(kind, random_scene(rng), rng)
        assert turns is not None
        request, *rest = turns
        told += [(request, turn) for turn in rest if turn.role == "tool"]
    assert len(told) > 20
    for request, turn in told:
        figures = [link.text for link in request.links if link.token == "[DET]"]
        assert len(turn.question.split(", ")) == len(figures)
        assert turn.text == f"I found {turn.question}"


def test_kinds_that_are_known_are_asked_less() -> None:
    curriculum = Curriculum(("count", "colour"))
    for _ in range(1500):
        curriculum.update("count", right=True)
    drawn = curriculum.draw(Random(0), 400)
    assert 0 < drawn.count("count") < 100
    assert set(ALL_MAKERS) > {"count", "colour"}
