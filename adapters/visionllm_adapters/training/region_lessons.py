"""Lessons on region prompts: what is marked, in words, by its class, and as a mask."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import ClassVar, Final

from visionllm_adapters.data.records import DataSet, Record, Thing
from visionllm_adapters.training.examples import Call, Example
from visionllm_adapters.training.lessons import Classroom, Lesson, detection_truth
from visionllm_adapters.training.pictures import seen
from visionllm_sdk.errors import InputError
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.conversation import ForcedCall, Parts, Turn, image_parts, region_list
from visionllm_sdk.model.prompt import RegionPrompt
from visionllm_sdk.regions import Region, region_name
from visionllm_sdk.scenes.regions import REGION_KINDS, draw_prompt
from visionllm_sdk.skills.pointing import mark_thumbnail
from visionllm_sdk.skills.regional import LAYOUTS, worded
from visionllm_sdk.tool import ForcedLayout

_MOST: Final = 4
"""Things that are marked in one picture, where several can be."""


def marked(thing: Thing, random: Random) -> Region:
    """A region prompt on a thing: of any kind where its mask is known, else its box."""
    if thing.mask is None:
        return thing.box
    return draw_prompt(thing.mask.to_numpy(), random.choice(REGION_KINDS), seed=random.randrange(2**31))


def wording(model: Model, layout: str) -> ForcedLayout:
    """How a checkpoint is asked about marked things."""
    return model.config.sdk.layouts.get(layout, LAYOUTS[layout])


def about_one(layout: ForcedLayout) -> Parts:
    """The question about one image with one marked thing."""
    return (*image_parts(1), *worded(layout, region_list([region_name(0)])))


def outlining(model: Model, count: int) -> ForcedCall:
    """The request for the masks of so many marked things."""
    names = tuple(region_name(number) for number in range(count))
    token = model.registry.token("[DET]")
    return ForcedCall(
        token=token, labels=names, layout=wording(model, "interactive"), slot=region_list(names)
    )


def as_prompt(model: Model, region: Region, size: tuple[int, int]) -> RegionPrompt:
    """A region of a picture of (width, height), as the model takes it."""
    config = model.config
    return mark_thumbnail(region, size, config.image_size, max_stretch=config.sdk.max_stretch)


class RegionLesson(Lesson):
    """Makes examples about marked things.

    Raises:
        InputError: the model has no region encoder.
    """

    reads = True
    regions = True
    layout: ClassVar[str]

    def __init__(self, data: DataSet, room: Classroom) -> None:
        super().__init__(data, room)
        if room.model.core.region_encoder is None:
            raise InputError(
                f"this model has no region encoder, which the skill {self.skill!r} needs",
                remedy="Use a checkpoint that has one, or teach another skill.",
            )

    def wording(self) -> ForcedLayout:
        """How the checkpoint is asked."""
        return wording(self.room.model, self.layout)

    def prompt(self, thing: Thing, size: tuple[int, int], random: Random) -> RegionPrompt:
        """A thing, marked, as the model takes it."""
        return as_prompt(self.room.model, marked(thing, random), size)

    def words(self, image: object, thing: Thing, size: tuple[int, int], text: str, random: Random) -> Example:
        """One marked thing and what is said about it."""
        return Example(
            skill=self.skill,
            image=image,  # type: ignore[arg-type]
            turns=(Turn(about_one(self.wording()), (text,)),),
            regions=(self.prompt(thing, size, random),),
        )


class DescribeLesson(RegionLesson):
    """What an expression says of the thing that is marked."""

    skill = "describe"
    word = "expressions"
    layout = "describe"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, n) for record in data.records for n in range(len(record.references))]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, number = item
        text = record.references[number].expression
        view = self.view(record, random, [text])
        return self.words(view.image, view.references[number], view.size, text, random)


class ClassifyLesson(RegionLesson):
    """The class of the thing that is marked."""

    skill = "classify"
    word = "objects"
    layout = "recognise"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, n) for record in data.records for n in range(len(record.learnable))]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, number = item
        view = self.view(record, random, [record.learnable[number].label])
        thing = view.things[number]
        return self.words(view.image, thing, view.size, thing.label, random)


class SegmentRegionsLesson(RegionLesson):
    """`[DET]` for several marked things: the box and the mask of each."""

    skill = "segment_regions"
    tools = ("detect",)
    word = "objects"
    layout = "interactive"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, 0) for record in data.records if record.learnable]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, _ = item
        view = seen(record, random, flip=self.room.flip, zoom=self.room.zoom)
        most = min(_MOST, self.room.most_labels, len(view.things))
        things = random.sample(list(view.things), random.randint(1, most))
        truth, masked = detection_truth(things, list(range(len(things))), view.size)
        call = outlining(self.room.model, len(things))
        return Example(
            skill=self.skill,
            image=view.image,
            turns=(self.room.forced([call]),),
            calls=(Call(token="[DET]", labels=call.labels, truth=truth, with_masks=masked),),
            regions=tuple(self.prompt(thing, view.size, random) for thing in things),
        )
