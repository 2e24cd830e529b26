"""From labelled pictures to examples, one lesson for each skill."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Final

import numpy as np
import torch
from torch import Tensor

from visionllm_adapters.data.records import DataSet, Record, Thing
from visionllm_adapters.scoring.coco_figures import spoken
from visionllm_adapters.training.examples import Call, Example
from visionllm_adapters.training.pictures import View, seen, sided
from visionllm_sdk.errors import DataError, InputError
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.conversation import ForcedCall, Turn, forced_turn, image_parts
from visionllm_sdk.skills.talk import CAPTION_REQUEST, short
from visionllm_tools.detection.options import DetectionTruth
from visionllm_tools.pose.options import PoseTruth

_MOST_LABELS: Final = 12


@dataclass(frozen=True, kw_only=True)
class Classroom:
    """What every lesson needs.

    Attributes:
        model: layouts, routing tokens and limits are its.
        flip: whether pictures may be mirrored.
        zoom: largest factor of random resizing.
    """

    model: Model
    flip: bool = True
    zoom: float = 1.0

    def forced(self, calls: Sequence[ForcedCall], *, images: int = 1) -> Turn:
        """Question and answer in the layout in which the model will be asked."""
        sdk = self.model.config.sdk
        return forced_turn(calls, images=images, label_tags=sdk.label_tags, layouts=dict(sdk.layouts))

    def call(self, token: str, labels: Sequence[str]) -> ForcedCall:
        """One routing token with labels."""
        return ForcedCall(token=self.model.registry.token(token), labels=tuple(labels))

    @property
    def most_labels(self) -> int:
        """Labels of one call in one pass."""
        return min(_MOST_LABELS, self.model.config.sdk.max_forced_labels)


class Lesson(ABC):
    """Makes examples of one skill from one set.

    Args:
        data: labelled pictures.
        room: model and settings.

    Raises:
        DataError: the set has nothing for this skill.
    """

    skill: ClassVar[str]
    tools: ClassVar[tuple[str, ...]] = ()
    """Tools whose decoders learn."""
    reads: ClassVar[bool] = False
    """Whether the words of its answers depend on the picture."""
    regions: ClassVar[bool] = False
    """Whether things are marked by region prompts."""
    word: ClassVar[str]

    def __init__(self, data: DataSet, room: Classroom) -> None:
        self.data = data
        self.room = room
        self.items = self.collect(data)
        if not self.items:
            raise DataError(
                f"{data.name} holds no {self.word} for the skill {self.skill!r}",
                value=data.form,
                remedy="Name another skill, or data of another form.",
            )
        missing = [tool for tool in self.tools if tool not in room.model.registry]
        if missing:
            raise InputError(
                f"this model has no decoder for the skill {self.skill!r}",
                value=missing[0],
                limit=", ".join(room.model.registry.names),
                remedy="Use a checkpoint that has one.",
            )

    @abstractmethod
    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """What can be asked: pairs of a record and a number of something in it."""

    @abstractmethod
    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """One example; everything random comes from `random`."""

    def __len__(self) -> int:
        return len(self.items)

    def sample(self, most: int) -> list[Example]:
        """At most so many examples, spread evenly over all items, the same every time."""
        count = min(most, len(self.items))
        places = [place * len(self.items) // count for place in range(count)]
        return [self.example(self.items[place], Random(place)) for place in places]

    def view(self, record: Record, random: Random, texts: Sequence[str]) -> View:
        """The picture as it is shown this time."""
        room = self.room
        return seen(record, random, flip=room.flip and not any(sided(text) for text in texts), zoom=room.zoom)


class DetectLesson(Lesson):
    """`[DET]`: boxes and masks of the classes, with classes mixed in that the picture does not show."""

    skill = "detect"
    tools = ("detect",)
    word = "objects"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        known = [(record, 0) for record in data.records if record.things is not None]
        return known if any(record.learnable for record, _ in known) else []

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, _ = item
        labels = self._labels(record, random)
        view = self.view(record, random, labels)
        things = [thing for thing in view.things if thing.label in labels]
        truth, masked = detection_truth(things, [labels.index(t.label) for t in things], view.size)
        return Example(
            skill=self.skill,
            image=view.image,
            turns=(self.room.forced([self.room.call("[DET]", labels)]),),
            calls=(Call(token="[DET]", labels=tuple(labels), truth=truth, with_masks=masked),),
        )

    def _labels(self, record: Record, random: Random) -> list[str]:
        """Most of the time all classes, as an evaluation asks; else those shown and some that are not."""
        most, every = self.room.most_labels, list(self.data.labels)
        present = list(dict.fromkeys(thing.label for thing in record.learnable))
        absent = [label for label in every if label not in present]
        if len(every) <= most and random.random() < 0.6:
            return every
        kept = random.sample(present, min(len(present), most))
        room = most - len(kept)
        kept += random.sample(absent, min(len(absent), random.randint(0 if kept else 1, max(1, room))))
        random.shuffle(kept)
        return kept[:most]


class GroundLesson(Lesson):
    """`[GRD]`: the one thing that an expression means."""

    skill = "ground"
    tools = ("detect",)
    word = "expressions"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, n) for record in data.records for n in range(len(record.references))]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, number = item
        expression = record.references[number].expression
        view = self.view(record, random, [expression])
        truth, masked = detection_truth([view.references[number]], [0], view.size)
        return Example(
            skill=self.skill,
            image=view.image,
            turns=(self.room.forced([self.room.call("[GRD]", [expression])]),),
            calls=(Call(token="[GRD]", labels=(expression,), truth=truth, with_masks=masked),),
        )


class PoseLesson(Lesson):
    """`[POSE]`: keypoints of the objects of one class, after its `[DET]`."""

    skill = "pose"
    tools = ("detect", "pose")
    word = "keypoints"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [
            (record, number)
            for record in data.records
            for number, label in enumerate(data.keypoints)
            if any(thing.label == label and thing.keypoints for thing in record.learnable)
        ]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, number = item
        label = list(self.data.keypoints)[number]
        names = [spoken(name) for name in self.data.keypoints[label]]
        view = seen(record, random, flip=False, zoom=self.room.zoom)
        things = [thing for thing in view.things if thing.label == label and thing.keypoints]
        truth, masked = detection_truth(things, [0] * len(things), view.size)
        poses = PoseTruth(
            boxes=truth.boxes,
            labels=truth.labels,
            keypoints=torch.tensor([thing.keypoints for thing in things], dtype=torch.float32),
            areas=torch.tensor([thing.area for thing in things], dtype=torch.float32),
        )
        calls = [self.room.call("[DET]", [label]), self.room.call("[POSE]", names)]
        return Example(
            skill=self.skill,
            image=view.image,
            turns=(self.room.forced(calls),),
            calls=(
                Call(token="[DET]", labels=(label,), truth=truth, with_masks=masked),
                Call(token="[POSE]", labels=tuple(names), truth=poses),
            ),
        )


class VqaLesson(Lesson):
    """Questions, asked as `ask` asks them; those of one record are turns of one conversation."""

    skill = "vqa"
    reads = True
    word = "questions"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, 0) for record in data.records if record.exchanges]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, _ = item
        view = seen(record, random, flip=False, zoom=self.room.zoom)
        turns = [
            Turn((*image_parts(1 if place == 0 else 0), short(one.question)), (one.answers[0],))
            for place, one in enumerate(record.exchanges)
        ]
        return Example(skill=self.skill, image=view.image, turns=tuple(turns))


class CaptionLesson(Lesson):
    """Descriptions, asked for as `caption` does."""

    skill = "caption"
    reads = True
    word = "captions"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, n) for record in data.records for n in range(len(record.captions))]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, number = item
        text = record.captions[number]
        view = self.view(record, random, [text])
        turn = Turn((*image_parts(1), CAPTION_REQUEST), (text,))
        return Example(skill=self.skill, image=view.image, turns=(turn,))


def detection_truth(
    things: Sequence[Thing], labels: Sequence[int], size: tuple[int, int]
) -> tuple[DetectionTruth, bool]:
    """The truth of things in a picture of (width, height), and whether it has masks."""
    masked = all(thing.mask is not None for thing in things)
    masks: Tensor | None = None
    if masked:
        arrays = [thing.mask.to_numpy() for thing in things if thing.mask is not None]
        shape = (len(arrays), size[1], size[0])
        masks = torch.from_numpy(np.stack(arrays) if arrays else np.zeros(shape, dtype=bool))
    truth = DetectionTruth(
        boxes=torch.tensor([thing.box.xyxy for thing in things], dtype=torch.float32).reshape(-1, 4),
        labels=torch.tensor(list(labels), dtype=torch.long),
        masks=masks,
    )
    return truth, masked
