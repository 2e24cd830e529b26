"""Results and progress, as people see them."""

from __future__ import annotations

import numpy as np
import pytest
from rich.console import Console

from visionllm_sdk.cli import show
from visionllm_sdk.errors import InputError
from visionllm_sdk.results import Box, Detection, Detections, Keypoint, Pose, Poses, Result, SemanticMap

LABELS = ("[/b]", "star [red]", "[link=x]ring[/link]")


def labelled(kind: type[Result]) -> Result:
    """A result of that kind whose names look like markup."""
    if kind is SemanticMap:
        return SemanticMap.from_numpy(np.array([[0, 1, 2]]), LABELS)
    box = Box(0, 0, 2, 1)
    if kind is Poses:
        names = tuple(Keypoint(f"tip {label}", 1, 1, 0.5) for label in LABELS)
        return Poses(width=3, height=1, poses=tuple(Pose(label, 0.5, box, names) for label in LABELS))
    return Detections(width=3, height=1, detections=tuple(Detection(label, 0.5, box) for label in LABELS))


@pytest.mark.parametrize("kind", [Detections, SemanticMap, Poses])
def test_labels_are_no_markup(kind: type[Result], capsys: pytest.CaptureFixture[str]) -> None:
    Console(width=160).print(show.table_of(labelled(kind)))
    shown = capsys.readouterr().out
    for label in LABELS:
        assert label in shown
        assert kind is not Poses or f"tip {label}" in shown


def test_figures_are_no_markup(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_figures({"AP [/b]": 0.5, "skill": "[red]"}, as_json=False)
    shown = capsys.readouterr().out
    assert "AP [/b]" in shown
    assert "0.500" in shown
    assert "[red]" in shown


def test_errors_tell_of_which_images_they_speak() -> None:
    def work(part: list[int]) -> list[int]:
        for place, number in enumerate(part):
            if number == bad:
                raise InputError(f"request {place}: too long")
        return part

    bad = 99
    assert show.with_progress(range(40), work) == list(range(40))
    bad = 3
    with pytest.raises(InputError, match=r"^request 3: too long"):
        show.with_progress(range(40), work)
    bad = 33
    with pytest.raises(InputError, match=r"^among images 32 to 39: request 1: too long"):
        show.with_progress(range(40), work)
