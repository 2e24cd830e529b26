"""What every measured skill does."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import ClassVar, TypeVar

from visionllm_sdk.evaluation.gallery import Gallery
from visionllm_sdk.evaluation.predictor import Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample

Item = TypeVar("Item")


class Skill(ABC):
    """Collects the outcomes of one skill, batch by batch, and sums them up at the end."""

    name: ClassVar[str]
    needs: ClassVar[str | None] = None
    """Skill of the model (one of `VisionLLM.skills`) without which there is nothing to measure."""
    examples_of_a_kind: ClassVar[int] = 9
    """How many examples of one kind of request the contact sheet may hold."""

    def __init__(self) -> None:
        self.gallery = Gallery(per_kind=self.examples_of_a_kind)

    @abstractmethod
    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """Ask the model about a batch of samples and keep the outcomes."""

    @abstractmethod
    def report(self) -> SkillReport:
        """The figures over everything measured."""


def chunks(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """Portions of at most `size` items."""
    for start in range(0, len(items), size):
        yield items[start : start + size]
