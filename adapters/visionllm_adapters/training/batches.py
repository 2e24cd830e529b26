"""What every step learns from: it follows from seed and step alone, so that a resumed run goes on exactly."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from visionllm_adapters.training.examples import Example
from visionllm_adapters.training.lessons import Lesson
from visionllm_adapters.training.replay import Replay


class Schedule:
    """Chooses examples: passes over each lesson's items in new orders, lessons in proportion to their items.

    Args:
        lessons: at least one.
        replay: draws replayed scenes.
        batch: examples of a step.
        share: of replayed scenes.
        seed: of all choices.
    """

    def __init__(
        self, lessons: Sequence[Lesson], replay: Replay, *, batch: int, share: float, seed: int
    ) -> None:
        self.lessons = list(lessons)
        self.replay = replay
        self.seed = seed
        self.replayed = min(batch - 1, round(batch * share))
        self.taught = batch - self.replayed
        self.items = [(lesson, place) for lesson in self.lessons for place in range(len(lesson))]

    def __len__(self) -> int:
        """Items of all lessons."""
        return len(self.items)

    @property
    def steps_per_epoch(self) -> int:
        """Steps until every item was seen."""
        return -(-len(self.items) // self.taught)

    def step(self, step: int, micro: int) -> list[list[Example]]:
        """The examples of a step, in portions of at most `micro`, the order mixed.

        A portion's own random numbers do not depend on how many portions there are.
        """
        chosen = [self._example(step, place) for place in range(self.taught)]
        random = Random(f"{self.seed}/{step}/replay")
        chosen += [self.replay.example(random) for _ in range(self.replayed)]
        Random(f"{self.seed}/{step}/order").shuffle(chosen)
        return [chosen[start : start + micro] for start in range(0, len(chosen), micro)]

    def _example(self, step: int, place: int) -> Example:
        epoch, index = divmod(step * self.taught + place, len(self.items))
        order = list(range(len(self.items)))
        Random(f"{self.seed}/order/{epoch}").shuffle(order)
        lesson, item = self.items[order[index]]
        return lesson.example(lesson.items[item], Random(f"{self.seed}/{step}/{place}"))
