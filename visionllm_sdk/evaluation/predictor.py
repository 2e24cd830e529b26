"""What evaluation needs of a model: the batched typed methods of `VisionLLM`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from PIL import Image

from visionllm_sdk.results import (
    Answer,
    Count,
    Detections,
    EditedImage,
    GeneratedImage,
    Grounding,
    Poses,
    Reply,
    SemanticMap,
)

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

Images = list[Image.Image]


class Predictor(Protocol):
    """A list of pictures, one request for each, one result for each. `VisionLLM` is one."""

    def detect(
        self, image: Images, labels: list[list[str]], /, *, threshold: float | None = None, masks: bool = True
    ) -> Sequence[Detections]:
        """Objects of the labels of each picture, down to a score; None is the model's own default."""

    def segment(self, image: Images, labels: list[list[str]], /) -> Sequence[SemanticMap]:
        """A map over the labels of each picture."""

    def ground(self, image: Images, expression: list[str], /) -> Sequence[Grounding]:
        """What each expression points at, best first."""

    def count(self, image: Images, label: list[str], /) -> Sequence[Count]:
        """How many objects bear each label."""

    def ask(self, image: Images, question: list[str], /) -> Sequence[Answer]:
        """An answer to each question."""

    def caption(self, image: Images, /) -> Sequence[Answer]:
        """A description of each picture."""

    def chat(self, text: list[str], images: list[Images], /) -> Sequence[Reply]:
        """A reply to each message, by free routing."""


class Poser(Protocol):
    """What evaluating poses needs beside a `Predictor`."""

    def pose(
        self,
        image: Images,
        label: list[list[str]],
        keypoints: list[list[str]],
        /,
        *,
        threshold: float | None = None,
    ) -> Sequence[Poses]:
        """Objects of the kinds with the named keypoints of each picture, down to a score."""


class Painter(Protocol):
    """What evaluating pictures needs beside a `Predictor`."""

    def generate(self, prompt: list[str], /, *, seed: int) -> Sequence[GeneratedImage]:
        """A picture of each caption."""

    def edit(self, image: Images, instruction: list[str], /, *, seed: int) -> Sequence[EditedImage]:
        """Each picture, changed as told."""


def adapted(vlm: VisionLLM, adapter: str) -> Predictor:
    """A model that answers every request with one adapter.

    Args:
        vlm: the model.
        adapter: name of a loaded adapter.
    """
    return cast(Predictor, _Adapted(vlm, adapter))


class _Adapted:
    def __init__(self, vlm: VisionLLM, adapter: str) -> None:
        self._vlm = vlm
        self._adapter = adapter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._vlm, name)
        return partial(found, adapter=self._adapter) if callable(found) else found
