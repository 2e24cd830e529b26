"""Scenes of the embedded model's own training, mixed in so that what it knew is not forgotten."""

from __future__ import annotations

from random import Random
from typing import Final

import torch

from visionllm_adapters.training.examples import Call, Example
from visionllm_adapters.training.lessons import Classroom
from visionllm_sdk.model.conversation import Parts, Turn, image_parts
from visionllm_sdk.model.tokenizer import Control
from visionllm_sdk.scenes import SceneOptions, render, sample_scene, training_seed, truth
from visionllm_sdk.scenes.facts import SceneFacts
from visionllm_sdk.scenes.language import MAKERS, Exchange, Link, tool_result
from visionllm_sdk.scenes.phrases import TRAINING
from visionllm_sdk.scenes.truth import SceneTruth
from visionllm_tools.detection.options import DetectionTruth

_FIRST: Final = 700_000_000
_SPAN: Final = 100_000_000
"""Training seeds that only replay draws from."""
_KINDS: Final = ("detect", "detect", "detect", "ground", "ground", "segment", "existence", "count", "colour",
                 "shape", "position", "comparison", "caption", "mixed", "small_talk")  # fmt: skip
_SIDES: Final = (128, 320)
_TRIES: Final = 8


def replayed(room: Classroom, random: Random) -> Example:
    """One scene with one question about it, and what its tools should find."""
    options = SceneOptions(sides=_SIDES, max_aspect=1.6)
    spec = sample_scene(training_seed(_FIRST + random.randrange(_SPAN)), options=options)
    drawn = render(spec)
    known = truth(spec, drawn)
    facts = known.facts()
    for _ in range(_TRIES):
        kind = random.choice(_KINDS)
        asked = MAKERS[kind](facts, random, TRAINING)
        if asked is not None and len(asked.links) <= room.most_labels:
            break
    else:
        asked = MAKERS["caption"](facts, random, TRAINING)
        assert asked is not None
    turns = [Turn((*image_parts(1), asked.question), _answer(asked, room))]
    if asked.links and room.model.config.sdk.tool_turns:
        told = tool_result(facts, random, asked)
        turns.append(Turn((told.question,), (told.text,), role="tool"))
    return Example(
        skill="replay", image=drawn.image, turns=tuple(turns), calls=tuple(_calls(asked, known, facts))
    )


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


def _calls(exchange: Exchange, known: SceneTruth, facts: SceneFacts) -> list[Call]:
    """Neighbouring links of one token are one call, but every expression is one of its own."""
    groups: list[list[Link]] = []
    for link in exchange.links:
        if groups and groups[-1][0].token == link.token != "[GRD]":
            groups[-1].append(link)
        else:
            groups.append([link])
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
