"""Replayed scenes in which things are marked: their names, their outlines, and more of their kind."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from PIL import Image

from visionllm_adapters.training.examples import REPLAY, Call, Example
from visionllm_adapters.training.lessons import Classroom
from visionllm_adapters.training.region_lessons import about_one, as_prompt, outlining, wording
from visionllm_adapters.training.replay_scenes import detected, replayed_scene
from visionllm_sdk.model.conversation import ForcedCall, Turn
from visionllm_sdk.model.prompt import RegionPrompt
from visionllm_sdk.scenes.regions import REGION_KINDS, region_prompt
from visionllm_sdk.scenes.truth import SceneTruth, by_colour_and_kind, by_kind
from visionllm_sdk.skills.regional import in_context_call

MARKED: Final = ("name", "outline", "alike")
"""What is asked about marked things."""
_MOST: Final = 4
"""Things that are marked at once."""
_TRIES: Final = 8
"""Scenes in which a thing of the wanted kind is looked for."""


@dataclass(frozen=True)
class MarkedScenes:
    """Asks about things that are marked in a scene.

    Args:
        room: with the embedded model.
        judged: whether the detector learns, and has to find what is marked.
    """

    room: Classroom
    judged: bool

    def example(self, kind: str, known: SceneTruth, image: Image.Image, random: Random) -> Example | None:
        """One of `MARKED` about a scene; None where it cannot be asked."""
        if self.room.model.core.region_encoder is None or not known.spec.objects:
            return None
        asked = {"name": self._name, "outline": self._outline, "alike": self._alike}
        return asked[kind](known, image, random)

    def _name(self, known: SceneTruth, image: Image.Image, random: Random) -> Example:
        """What one thing is called, or looks like."""
        things = known.spec.objects
        place = random.randrange(len(things))
        layout, words = random.choice((("recognise", by_kind), ("describe", by_colour_and_kind)))
        turn = Turn(about_one(wording(self.room.model, layout)), (str(words(things[place])),))
        mark = self._mark(known, image, place, random)
        return Example(skill=REPLAY, image=image, turns=(turn,), regions=(mark,))

    def _outline(self, known: SceneTruth, image: Image.Image, random: Random) -> Example:
        """A mask of each of a few things."""
        every = range(len(known.spec.objects))
        most = min(_MOST, self.room.most_labels, len(every))
        places = random.sample(every, random.randint(1, most))
        forced = outlining(self.room.model, len(places))
        return Example(
            skill=REPLAY,
            image=image,
            turns=(self.room.forced([forced]),),
            calls=(self._call(forced, known, places, list(range(len(places)))),),
            regions=tuple(self._mark(known, image, place, random) for place in places),
        )

    def _alike(self, known: SceneTruth, image: Image.Image, random: Random) -> Example | None:
        """All that is of the kind which is marked in another picture."""
        kind = random.choice(sorted({thing.kind for thing in known.spec.objects}))
        for _ in range(_TRIES):
            other, before = replayed_scene(random)
            fitting = _of_kind(other, kind)
            if fitting:
                break
        else:
            return None
        model, places = self.room.model, _of_kind(known, kind)
        forced = in_context_call(model.registry.token("[DET]"), model.config.sdk.layouts)
        return Example(
            skill=REPLAY,
            before=(before,),
            image=image,
            turns=(self.room.forced([forced], images=0),),  # its question shows both
            calls=(self._call(forced, known, places, [0] * len(places)),),
            regions=(self._mark(other, before, random.choice(fitting), random),),
        )

    def _call(self, forced: ForcedCall, known: SceneTruth, places: list[int], labels: list[int]) -> Call:
        truth = detected(known, places, labels) if self.judged else None
        return Call(token=forced.token.text, labels=forced.labels, truth=truth, with_masks=True)

    def _mark(self, known: SceneTruth, image: Image.Image, place: int, random: Random) -> RegionPrompt:
        """A thing, marked in any way, as the model takes it."""
        region = region_prompt(known, place, random.choice(REGION_KINDS), seed=random.randrange(2**31))
        return as_prompt(self.room.model, region, image.size)


def _of_kind(known: SceneTruth, kind: str) -> list[int]:
    return [place for place, thing in enumerate(known.spec.objects) if thing.kind == kind]
