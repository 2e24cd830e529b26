"""Scenes of the embedded model's own training, mixed in so that what it knew is not forgotten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Final

import numpy as np
import torch
from PIL import Image

from visionllm_adapters.training.examples import REPLAY, Call, Example
from visionllm_adapters.training.lessons import Classroom
from visionllm_adapters.training.replay_marks import MARKED, MarkedScenes
from visionllm_adapters.training.replay_scenes import detected, replayed_scene
from visionllm_sdk.model.conversation import Parts, Turn, image_parts
from visionllm_sdk.model.tokenizer import Control
from visionllm_sdk.scenes.drawing_language import DRAWING_MAKERS, DRAWING_TRAINING
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.figures import KEYPOINTS
from visionllm_sdk.scenes.language import MAKERS, VQA_KINDS, Exchange, Link, tool_result
from visionllm_sdk.scenes.phrases import TRAINING
from visionllm_sdk.scenes.truth import SceneTruth
from visionllm_sdk.skills.talk import short
from visionllm_tools.detection.options import DetectionTruth
from visionllm_tools.pose.options import PoseTruth

_PHRASES: Final = {**TRAINING, **DRAWING_TRAINING}
_ASKED: Final[Mapping[str, int]] = {
    "detect": 2, "ground": 3, "segment": 3, "mixed": 2, "small_talk": 1, "caption": 12, "existence": 2,
    "count": 2, "colour": 2, "shape": 2, "position": 2, "comparison": 2, "generate": 1, "pose": 2, "name": 2,
    "outline": 1, "alike": 5,
}  # fmt: skip
"""How often each kind of request comes."""
_JUDGED: Final = ("detect", "ground", "segment", "mixed", "outline", "alike")
_MORE: Final = 2
"""So much more often come those that the detector is judged by, where it learns: words stay as they are, but
the scores of what it knew drift, and with them what counts as found."""
_POSED: Final = 0.6
"""Share of things that are figures where poses are asked for."""
_TRIES: Final = 8


@dataclass(frozen=True)
class Replay:
    """Draws scenes and asks about them what the embedded model can be asked.

    Args:
        room: with the embedded model.
        taught: names of the tools that learn, and have to find what is there; of the others' calls only the
            super-links count.
    """

    room: Classroom
    taught: frozenset[str]

    def example(self, random: Random) -> Example:
        """One scene with one request, and what its tools should find."""
        for _ in range(_TRIES):
            kind = random.choices(list(_ASKED), self._weights)[0]
            found = self._asked(kind, random)
            if found is not None:
                return found
        found = self._asked("caption", random)
        assert found is not None
        return found

    @property
    def _weights(self) -> list[int]:
        more = _MORE if "detect" in self.taught else 1
        return [weight * (more if kind in _JUDGED else 1) for kind, weight in _ASKED.items()]

    def _asked(self, kind: str, random: Random) -> Example | None:
        if kind == "pose":
            return self._pose(*replayed_scene(random, figures=_POSED), random)
        known, image = replayed_scene(random)
        if kind in MARKED:
            return MarkedScenes(self.room, "detect" in self.taught).example(kind, known, image, random)
        facts = known.facts()
        asked = {**MAKERS, **DRAWING_MAKERS}[kind](facts, random, _PHRASES)
        if asked is None or len(asked.links) > self.room.most_labels:
            return None
        if any(link.token not in self._tokens for link in asked.links):
            return None
        asked = _hinted(asked, kind, random)
        shown = 0 if kind == "generate" else 1
        turns = [Turn((*image_parts(shown), asked.question), _answer(asked, self.room))]
        judged = "detect" in self.taught and kind != "generate"
        if asked.links and kind != "generate" and self.room.model.config.sdk.tool_turns:
            told = tool_result(facts, random, asked)
            turns.append(Turn((told.question,), (told.text,), role="tool"))
        calls = tuple(_calls(asked, known, facts, judged=judged))
        return Example(skill=REPLAY, image=image if shown else None, turns=tuple(turns), calls=calls)

    @property
    def _tokens(self) -> set[str]:
        return {token.text for tool in self.room.model.registry for token in tool.tokens}

    def _pose(self, known: SceneTruth, image: Image.Image, random: Random) -> Example | None:
        """All keypoints of the figures of one kind."""
        if "pose" not in self.room.model.registry:
            return None
        things = known.spec.objects
        kinds = sorted({thing.kind for thing in things if thing.figure is not None})
        if not kinds:
            return None
        kind = random.choice(kinds)
        places = [place for place, thing in enumerate(things) if thing.kind == kind]
        names = tuple(name.replace("_", " ") for name in KEYPOINTS[kind])
        found = detected(known, places, [0] * len(places))
        assert found.masks is not None
        points = [own for place in places if (own := known.keypoints[place]) is not None]
        posed = PoseTruth(
            boxes=found.boxes,
            labels=found.labels,
            keypoints=torch.from_numpy(np.stack(points)).float(),
            areas=found.masks.flatten(1).sum(1).float(),
        )
        room, taught = self.room, self.taught
        truths = found if "detect" in taught else None, posed if "pose" in taught else None
        calls = (
            Call(token="[DET]", labels=(kind,), truth=truths[0], with_masks=True),
            Call(token="[POSE]", labels=names, truth=truths[1]),
        )
        turn = room.forced([room.call("[DET]", [kind]), room.call("[POSE]", names)])
        return Example(skill=REPLAY, image=image, turns=(turn,), calls=calls)


def _hinted(asked: Exchange, kind: str, random: Random) -> Exchange:
    """Half of the questions that words answer are asked as `VisionLLM.ask` does: for a short answer."""
    routed = bool(asked.links) and asked.final is None
    if kind not in VQA_KINDS or routed or random.random() < 0.5:
        return asked
    return replace(asked, question=short(asked.question))


def _answer(exchange: Exchange, room: Classroom) -> Parts:
    """The reply with its routing tokens, labels tagged as the checkpoint writes them."""
    parts: list[str | Control] = []
    for part in exchange.answer:
        if isinstance(part, str):
            parts.append(part)
            continue
        tag = room.model.registry.token(part.token).label_tag
        if tag and room.model.config.sdk.label_tags:
            parts += [Control(f"<{tag}>"), part.text, Control(f"</{tag}>"), Control(part.token)]
        else:
            parts += [part.text, Control(part.token)]
    return tuple(parts)


def _calls(exchange: Exchange, known: SceneTruth, facts: SceneFacts, *, judged: bool) -> list[Call]:
    """Neighbouring links of one token are one call, but every expression is one of its own."""
    groups: list[list[Link]] = []
    for link in exchange.links:
        if groups and groups[-1][0].token == link.token != "[GRD]":
            groups[-1].append(link)
        else:
            groups.append([link])
    if not judged:
        labels = [tuple(link.text for link in links) for links in groups]
        return [Call(token=g[0].token, labels=own, truth=None) for g, own in zip(groups, labels, strict=True)]
    return [_call(links, known, facts) for links in groups]


def _call(links: list[Link], known: SceneTruth, facts: SceneFacts) -> Call:
    different = list({link.text: link for link in links}.values())  # tools answer a repeated label once
    bears = torch.tensor(
        [[_means(link, facts, n) for link in different] for n in range(len(facts.objects))], dtype=torch.bool
    ).reshape(-1, len(different))
    kept = bears.any(1)
    chosen = bears[kept]
    found = DetectionTruth(
        boxes=torch.from_numpy(known.boxes)[kept].reshape(-1, 4).float(),
        labels=chosen.float().argmax(1) if len(chosen) else torch.zeros(0, dtype=torch.long),
        masks=torch.from_numpy(known.masks)[kept],
        bears=chosen,
    )
    return Call(token=links[0].token, labels=tuple(link.text for link in links), truth=found, with_masks=True)


def _means(link: Link, facts: SceneFacts, index: int) -> bool:
    if link.referent is not None:
        return link.referent == index
    return link.label is not None and link.label.matches(facts.objects[index])
