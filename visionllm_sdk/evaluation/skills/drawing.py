"""`[GEN]` and `[EDIT]`: pictures judged by the classical checker, not by the model that made them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from PIL import Image

from visionllm_sdk.evaluation.predictor import Painter, Predictor
from visionllm_sdk.evaluation.report import SkillReport
from visionllm_sdk.evaluation.samples import Sample
from visionllm_sdk.evaluation.skills.base import Skill
from visionllm_sdk.evaluation.tallies import Tally
from visionllm_sdk.scenes import HELD_OUT_SEEDS, render, sample_scene, truth
from visionllm_sdk.scenes.captions import DRAWABLE, ask_for, caption_text
from visionllm_sdk.scenes.checker import Asked, Verdict, check
from visionllm_sdk.scenes.drawing_language import DRAWING_HELD_OUT, EditWords, instruction
from visionllm_sdk.scenes.edit_checker import EditVerdict, check_edit
from visionllm_sdk.scenes.edit_words import as_told
from visionllm_sdk.scenes.edits import EDIT_KINDS, AnyEdit, EditKind, sample_edit
from visionllm_sdk.scenes.spec import SceneSpec

_COUNTS: Final = {"one object": 1, "two objects": 2, "three objects": 3}
_SHARES: Final = (0.4, 0.45, 0.15)
_TRIES: Final = 50
_LOUDEST: Final = 60.0
"""Decibels at which a faithful picture counts no better."""


def caption_of(sample: Sample) -> tuple[str, Asked]:
    """A kind of caption and what it asks for; captions of two objects always name their relation."""
    rng = sample.random("generation")
    kind = rng.choices(tuple(_COUNTS), _SHARES)[0]
    options = DRAWABLE.model_copy(update={"objects": (_COUNTS[kind], _COUNTS[kind])})
    asked: Asked | None = None
    for _ in range(_TRIES):
        spec = sample_scene(rng.choice(HELD_OUT_SEEDS), options=options)
        asked = ask_for(truth(spec, render(spec)).facts(), rng)
        if len(asked.objects) == _COUNTS[kind] and (kind != "two objects" or asked.relations):
            break
    assert asked is not None
    return kind, asked


class GenerationSkill(Skill):
    """Shares of captions whose picture shows what they ask for."""

    name = "generation"
    needs = "generate"
    examples_of_a_kind = 4

    def __init__(self) -> None:
        super().__init__()
        self._tallies = {
            name: Tally() for name in ("right", "objects", "colours", "places", "background", "clean")
        }

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        wanted = [caption_of(sample) for sample in samples]
        captions = [caption_text(asked) for _, asked in wanted]
        drawn = cast(Painter, model).generate(captions, seed=1)
        for (kind, asked), words, picture in zip(wanted, captions, drawn, strict=True):
            self._score(kind, asked, words, picture.image)

    def _score(self, kind: str, asked: Asked, words: str, image: Image.Image) -> None:
        verdict: Verdict = check(image, asked)
        marks = {
            "right": verdict.right,
            "objects": verdict.shapes and verdict.colours,
            "colours": verdict.colours,
            "places": verdict.places,
            "clean": verdict.extra == 0,
        }
        if asked.background is not None:
            marks["background"] = verdict.background
        for name, mark in marks.items():
            self._tallies[name].add(kind, mark)
        if self.gallery.wants(verdict.right, kind):
            wrong = ", ".join(name for name, mark in marks.items() if not mark and name != "right")
            self.gallery.add(verdict.right, _larger(image), f"{words} ({wrong or 'right'})", kind)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        return SkillReport(
            figures={name: tally.overall for name, tally in self._tallies.items()},
            slices={"kind": _by_kind(self._tallies, _COUNTS)},
            counts={"captions": self._tallies["right"].totals.total()},
        )


@dataclass(frozen=True, slots=True)
class EditTask:
    """A scene, an edit of it, and the instruction."""

    before: SceneSpec
    edit: AnyEdit
    words: EditWords
    text: str


def edit_of(sample: Sample) -> EditTask:
    """A scene of a few things on a plain ground with an edit that words can name, as they tell it."""
    rng = sample.random("editing")
    kind: EditKind = EDIT_KINDS[rng.randrange(len(EDIT_KINDS))]
    while True:
        seed = rng.choice(HELD_OUT_SEEDS)
        before = sample_scene(seed, options=DRAWABLE)
        edit = sample_edit(seed, before, kind=kind, options=DRAWABLE)
        if edit is None:
            continue
        told = as_told(edit, before, rng)
        if told is not None:
            exact, words = told
            return EditTask(before, exact, words, instruction(words, rng, DRAWING_HELD_OUT))


_DRAWN: Final = "add"


class EditingSkill(Skill):
    """Shares of edits that were done, and PSNR against the exactly edited scene.

    The PSNR over all kinds is that of changes to what is there. An added thing is drawn anew; its PSNR stands
    among the kinds.
    """

    name = "editing"
    needs = "edit"
    examples_of_a_kind = 3

    def __init__(self) -> None:
        super().__init__()
        self._done = Tally()
        self._verdicts: list[tuple[str, EditVerdict]] = []

    def measure(self, model: Predictor, samples: Sequence[Sample]) -> None:
        """See `Skill.measure`."""
        tasks = [edit_of(sample) for sample in samples]
        sources = [render(task.before).image for task in tasks]
        edited = cast(Painter, model).edit(sources, [task.text for task in tasks], seed=1)
        for task, source, picture in zip(tasks, sources, edited, strict=True):
            self._score(task, source, picture.image)

    def _score(self, task: EditTask, source: Image.Image, image: Image.Image) -> None:
        verdict, kind = check_edit(image, task.before, task.edit), task.edit.kind
        self._done.add(kind, verdict.done)
        self._verdicts.append((kind, verdict))
        if self.gallery.wants(verdict.done, kind):
            both = Image.new("RGB", (2 * source.width + 2, source.height), "white")
            both.paste(source, (0, 0))
            both.paste(image, (source.width + 2, 0))
            text = f"{task.text} (inside {verdict.inside:.0f} dB, outside {verdict.outside:.0f} dB)"
            self.gallery.add(verdict.done, _larger(both), text, kind)

    def report(self) -> SkillReport:
        """See `Skill.report`."""
        kinds = [kind for kind in EDIT_KINDS if kind in self._done.totals]
        return SkillReport(
            figures={
                "done": self._done.overall,
                **self._loudness([kind for kind in kinds if kind != _DRAWN]),
            },
            slices={
                "kind": {
                    kind: {
                        "done": self._done.rate(kind),
                        **self._loudness([kind]),
                        "cases": self._done.totals[kind],
                    }
                    for kind in kinds
                }
            },
            counts={"edits": self._done.totals.total()},
        )

    def _loudness(self, kinds: Sequence[str]) -> dict[str, float | None]:
        own = [verdict for kind, verdict in self._verdicts if kind in kinds]
        return {
            "psnr_inside": pooled_psnr([verdict.inside for verdict in own]),
            "psnr_outside": pooled_psnr([verdict.outside for verdict in own]),
        }


def pooled_psnr(values: Sequence[float]) -> float | None:
    """PSNR of the mean squared error over pictures, in dB; one that is all alike counts as 60 dB."""
    if not values:
        return None
    return -10 * math.log10(sum(10 ** (-min(value, _LOUDEST) / 10) for value in values) / len(values))


def _by_kind(tallies: dict[str, Tally], kinds: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Rates of every figure by kind, with the number of cases."""
    right = tallies["right"]
    return {
        kind: {name: tally.rate(kind) for name, tally in tallies.items()} | {"cases": right.totals[kind]}
        for kind in kinds
        if kind in right.totals
    }


def _larger(image: Image.Image, least: int = 256) -> Image.Image:
    """Small pictures enlarged for the contact sheet, pixel by pixel."""
    factor = max(1, least // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
