"""What may be mirrored: nothing that speaks of sides."""

from __future__ import annotations

from random import Random
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from visionllm_adapters.data import DataSet, Record, Reference, Thing
from visionllm_adapters.training.lessons import Classroom, GroundLesson
from visionllm_adapters.training.pictures import sided
from visionllm_sdk.geometry import Box
from visionllm_sdk.model.conversation import Turn


@pytest.mark.parametrize(
    "text",
    [
        "the left pump", "the leftmost pump", "the RIGHTMOST one", "leftward", "la pompe gauche",
        "la vanne droite", "die linke Pumpe", "das rechteste Ventil", "rechts", "la bomba izquierda",
        "a la derecha", "a sinistra", "a destra", "na esquerda", "na direita", "左の", "слева",
    ],
)  # fmt: skip
def test_words_for_sides(text: str) -> None:
    assert sided(text)


@pytest.mark.parametrize("text", ["the topmost pump", "a red valve, 3 of 4", "the pump – a “big” one"])
def test_words_without_sides(text: str) -> None:
    assert not sided(text)


class Asking(GroundLesson):
    """Needs no model."""

    tools = ()


def room() -> Any:
    one: Any = Classroom(model=SimpleNamespace(registry=()))  # type: ignore[arg-type]
    object.__setattr__(one, "forced", lambda calls: Turn(("?",), ("!",)))
    object.__setattr__(one, "call", lambda token, labels: None)
    return one


@pytest.mark.parametrize(("expression", "mirrored"), [("the leftmost pump", False), ("the pump", True)])
def test_a_picture_is_mirrored_unless_its_expression_has_a_side(expression: str, mirrored: bool) -> None:
    pump = Thing(label="pump", box=Box(2, 2, 12, 12))
    record = Record(
        key="a",
        source=Image.new("RGB", (64, 32)),
        width=64,
        height=32,
        references=(Reference(expression, pump),),
    )
    lesson = Asking(DataSet(name="set", form="form", records=(record,)), room())
    boxes = {
        tuple(lesson.example((record, 0), Random(number)).calls[0].truth.boxes[0].tolist())
        for number in range(12)
    }
    assert ((52, 2, 62, 12) in boxes) == mirrored
    assert (2, 2, 12, 12) in boxes
