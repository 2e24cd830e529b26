"""Lessons on making pictures: from captions, and from a picture with an instruction."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from PIL import Image

from visionllm_adapters.data.records import DataSet, Record
from visionllm_adapters.training.examples import Call, Example
from visionllm_adapters.training.lessons import Lesson
from visionllm_sdk.images import load_image
from visionllm_tools.diffusion.tool import PictureTruth


class _DrawingLesson(Lesson):
    """What both have in common: pictures of the decoder's own size."""

    def sized(self, picture: Image.Image) -> Image.Image:
        """A picture as the decoder learns it: a square of its own side."""
        decoder: Any = self.room.model.tools[self.tools[0]].decoder
        side = decoder.native_side
        return picture.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)

    def call(self, token: str, words: str, truth: PictureTruth, shown: Image.Image | None) -> Example:
        """One request to draw, with the wanted picture."""
        turn = self.room.forced([self.room.call(token, [words])], images=0 if shown is None else 1)
        call = Call(token=token, labels=(words,), truth=truth)
        return Example(skill=self.skill, image=shown, turns=(turn,), calls=(call,))


class GenerateLesson(_DrawingLesson):
    """`[GEN]`: the picture that a caption describes."""

    skill = "generate"
    tools = ("generate",)
    word = "captions"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, n) for record in data.records for n in range(len(record.captions))]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, number = item
        words = record.captions[number]
        truth = PictureTruth(image=self.sized(record.load().image), caption=words)
        return self.call("[GEN]", words, truth, None)


class EditLesson(_DrawingLesson):
    """`[EDIT]`: a picture, changed as an instruction says."""

    skill = "edit"
    tools = ("edit",)
    word = "edits"

    def collect(self, data: DataSet) -> Sequence[tuple[Record, int]]:
        """See `Lesson`."""
        return [(record, n) for record in data.records for n in range(len(record.changes))]

    def example(self, item: tuple[Record, int], random: Random) -> Example:
        """See `Lesson`."""
        record, number = item
        change, before = record.changes[number], record.load().image
        truth = PictureTruth(
            image=self.sized(load_image(change.after).image),
            source=self.sized(before),
            caption=change.instruction,
        )
        return self.call("[EDIT]", change.instruction, truth, before)
