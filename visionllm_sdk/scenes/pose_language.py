"""Requests for poses: whose keypoints, and which, each with the exact reply that the model should give.

A reply names the kinds of objects first and then the keypoints: `person[DET]. nose[POSE], left knee[POSE].`
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from visionllm_sdk.keypoints import AP10K, COCO, HAND
from visionllm_sdk.scenes.exchange import Exchange, Link, Maker, enumerate_words
from visionllm_sdk.scenes.facts import FIGURES, SHAPES, SceneFacts
from visionllm_sdk.scenes.labels import Label, article, plural
from visionllm_sdk.scenes.phrases import Phrases
from visionllm_sdk.scenes.wording import Wording, draw_wording

_SETS: Final = {"person": COCO.names, "dog": AP10K.names}
_ANIMALS: Final = ("cat", "horse", "cow", "sheep", "elephant", "zebra")
_PEOPLE: Final = ("man", "woman", "child", "boy", "girl", "player", "runner")
_EVERYBODY: Final = (*_PEOPLE, "guy", "lady", "kid", "human")
"""People as training names them; the evaluation keeps to its own."""
_PARTS: Final = (
    "handle", "tip", "corner", "front wheel", "back wheel", "roof", "door", "top", "bottom", "left corner",
    "right corner", "center", "tail", "head", "beak", "left wing", "right wing", "mouth", "left hand",
    "right hand", "left foot", "right foot", "chin", "forehead", "left horn", "right horn", "spout", "lid",
)  # fmt: skip
_OF: Final = re.compile(r"(?:the )?\{k\} (?:of|on) \{c\}")
_POSSESSIVE: Final = 0.4
"""Share of "the nose of the dog" that training words as "the dog's nose"."""
_PAIRS: Final = 0.2
"""Share of named keypoints, in training, that are asked for two and two: "the eyes"."""
_FREE: Final = ("car", "bicycle", "bird", "bottle", "cup", "chair", "lamp", "robot", "fish", "boat")

POSE_TRAINING: Final[Phrases] = {
    "pose": (
        "Detect {c} with the keypoints {k}",
        "Detect {c} with the keypoints {k}",
        "Detect {c} with the keypoints {k}",
        "Detect {c} with the keypoints {k}",
        "Detect {c} with the keypoints {k}",
        "Detect {c} with the keypoints {k}",
        "Detect {c} with the keypoints {k}",
        "find {c} and the keypoints {k}",
        "find the {k} of {c}",
        "where are the {k} of {c}?",
        "where is the {k} of {c}?",
        "locate the keypoints {k} of {c}",
        "locate {k} on {c}",
        "mark the {k} of {c}",
        "show me the {k} of {c}",
        "give me the keypoints {k} for {c}",
        "keypoints of {c}: {k}",
        "{c}: {k}",
        "point out the {k} of {c}",
        "for {c}, find {k}",
        "for {c}, mark the {k}",
        "detect the keypoints {k} of {c}",
        "detect {k} on {c}",
        "find {c} with {k}",
        "i need the {k} of {c}",
        "put a dot on the {k} of {c}",
        "track these keypoints of {c}: {k}",
        "pinpoint the {k} of {c}",
        "get the joints {k} of {c}",
        "in which places are the {k} of {c}?",
        "find these points on {c}: {k}",
        "return the positions of {k} for {c}",
        "find the {k} of {c}",
        "find {k} of {c}",
        "find the {k} on {c}",
        "find the points {k} of {c}",
        "where do you see the {k} of {c}?",
        "where on {c} are the {k}?",
        "at which pixel is the {k} of {c}?",
        "at which pixels do {k} of {c} lie?",
        "give the pixels of the keypoints {k} on {c}",
        "pixel positions of {k} on {c}",
        "i need pixel coordinates for the {k} of {c}",
        "what are the pixel coordinates of {k} on {c}?",
        "to which pixel does the {k} of {c} fall?",
        "place the {k} of {c} as points",
        "the {k} of {c}",
        "the {k} of {c}, please",
        "the points {k} for {c}",
        "localize the {k} of {c}",
        "detect the {k} of {c} as keypoints",
        "run the keypoint detector for {k} on {c}",
        "which points are the {k} of {c}?",
        "which point is the {k} of {c}?",
        "which spots of the image are {k} of {c}?",
        "what is the position of the {k} of {c}?",
        "annotate the {k} of {c} with points",
        "estimate the {k} of {c}",
        "let me see the {k} of {c}",
        "list the keypoints {k} of {c}",
        "look for the {k} of {c}",
        "tag the {k} on {c}",
        "highlight the {k} of {c} with dots",
        "draw points at the {k} of {c}",
        "show {k} on {c}",
        "can you point to the {k} of {c}?",
    ),
    "whole_pose": (
        "estimate the pose of {c}",
        "estimate the poses of {c}",
        "find the pose of {c}",
        "show the pose of {c}",
        "what is the pose of {c}?",
        "detect all keypoints of {c}",
        "give me the keypoints of {c}",
        "give me all keypoints of {c}",
        "find the keypoints of {c}",
        "draw the skeleton of {c}",
        "show me the skeleton of {c}",
        "find the joints of {c}",
        "run pose estimation for {c}",
        "pose estimation: {c}",
        "pose of {c}",
        "keypoints of {c}",
        "how does {c} stand? show the pose",
        "mark every keypoint of {c}",
        "detect the body keypoints of {c}",
        "find all the joints of {c}",
        "i need the pose of {c}",
        "do pose estimation on {c}",
        "locate every joint of {c}",
        "where are the joints of {c}?",
        "where are the keypoints of {c}?",
        "where are all the keypoints of {c}?",
        "return the skeleton of {c}",
        "the skeleton of {c}, please",
        "the pose of {c}",
        "the whole pose of {c}, please",
        "full pose of {c}",
        "body pose of {c}",
        "{c}: pose",
        "{c}: all keypoints",
        "{c}, skeleton",
        "pose detection for {c}",
        "keypoint detection on {c}",
        "detect the pose of {c}",
        "detect poses of {c}",
        "detect the joints and limbs of {c}",
        "compute the pose of {c}",
        "predict the keypoints of {c}",
        "predict the pose of {c}",
        "extract the keypoints of {c}",
        "extract the skeleton of {c}",
        "annotate the keypoints of {c}",
        "annotate the pose of {c}",
        "trace the skeleton of {c}",
        "sketch the skeleton of {c} as dots",
        "put dots on all joints of {c}",
        "put a point on every joint of {c}",
        "place the keypoints on {c}",
        "track the body of {c}",
        "track all joints of {c}",
        "how is {c} posed?",
        "how is the body of {c} posed?",
        "how are the limbs of {c} placed?",
        "how does {c} hold its limbs?",
        "in what posture is {c}?",
        "analyze the posture of {c}",
        "what does the posture of {c} look like?",
        "give the posture of {c}",
        "let me see the pose of {c}",
        "let me see all keypoints of {c}",
        "list the keypoints of {c}",
        "list every joint of {c}",
        "highlight the joints of {c}",
        "point out all joints of {c}",
        "pinpoint all keypoints of {c}",
        "i want the keypoints of {c}",
        "i would like the skeleton of {c}",
        "can i have the pose of {c}?",
        "could you estimate the pose of {c}?",
        "can you run pose estimation on {c}?",
        "please mark all body points of {c}",
        "find the body parts of {c} as keypoints",
        "look for {c} and its joints",
        "find {c} and its pose",
        "find {c} and all of its keypoints",
        "for {c}, give all keypoints",
        "for {c}, show the skeleton",
        "human or animal pose of {c}",
        "every keypoint of {c}",
        "joints of {c}",
    ),
}

POSE_HELD_OUT: Final[Phrases] = {
    "pose": (
        "Detect {c} with the keypoints {k}",
        "i would like to see the {k} of {c}",
        "could you mark {k} on {c}?",
        "show where the {k} of {c} are",
        "which pixels are the {k} of {c}?",
        "get me these keypoints of {c}: {k}",
        "tell me the coordinates of the {k} of {c}",
        "i want dots on the {k} of {c}",
    ),
    "whole_pose": (
        "what pose is {c} in?",
        "show all keypoints of {c}",
        "can you find the skeleton of {c}?",
        "get the pose of {c}",
        "mark the joints of {c}",
    ),
}


def pose(scene: SceneFacts, rng: Random, phrases: Phrases = POSE_TRAINING) -> Exchange:
    """A request for keypoints that are named, of one kind of object, now and then of two."""
    kinds = _kinds(scene, rng, _EVERYBODY if phrases is POSE_TRAINING else _PEOPLE)
    if phrases is POSE_TRAINING and rng.random() < _PAIRS:
        names, named = _paired(kinds[0], rng)
    else:
        names = _names(kinds[0], rng)
        named = _listed(names, rng)
    wording = draw_wording("pose", phrases, rng, training=POSE_TRAINING)
    owners = _written_kinds(kinds, rng)
    if phrases is POSE_TRAINING and len(kinds) == 1 and rng.random() < _POSSESSIVE:
        owned = _OF.sub("{c} {k}", wording.template)
        if owned != wording.template:
            wording = replace(wording, template=owned)
            owners = f"{rng.choice(('the ', 'the ', 'the ', 'a ', 'each ', ''))}{kinds[0]}'s"
    sentence = _said(wording, owners, named, rng)
    return Exchange("pose", sentence, pose_reply(kinds, names))


def whole_pose(scene: SceneFacts, rng: Random, phrases: Phrases = POSE_TRAINING) -> Exchange:
    """A request for a pose, without a word about which keypoints: all of the set that fits."""
    people = _EVERYBODY if phrases is POSE_TRAINING else _PEOPLE
    kind = _seen_figure(scene, rng) if rng.random() < 0.8 else rng.choice((*people, *_ANIMALS))
    wording = draw_wording("whole_pose", phrases, rng, training=POSE_TRAINING)
    sentence = _said(wording, _written_kinds([kind], rng), "", rng)
    return Exchange("whole_pose", sentence, pose_of(kind))


POSE_MAKERS: Final[dict[str, Maker]] = {"pose": pose, "whole_pose": whole_pose}
"""One maker per kind of request for poses."""


def pose_reply(kinds: Sequence[str], names: Sequence[str]) -> tuple[str | Link, ...]:
    """The reply that names every kind and then every keypoint once."""
    parts: list[str | Link] = []
    for index, kind in enumerate(kinds):
        label = Label(kind) if kind in (*FIGURES, *SHAPES) else None
        parts += [*([", "] if index else []), Link("[DET]", kind, label)]
    for index, name in enumerate(names):
        parts += [", " if index else ". ", Link("[POSE]", name, None)]
    return (*parts, ".")


def pose_of(kind: str) -> tuple[str | Link, ...]:
    """The reply that asks for the whole pose of a kind of person or animal."""
    return pose_reply([kind], _SETS["dog" if kind == "dog" or kind in _ANIMALS else "person"])


def _seen_figure(scene: SceneFacts, rng: Random) -> str:
    seen = [thing.kind for thing in scene.objects if thing.kind in FIGURES]
    return rng.choice(seen) if seen and rng.random() < 0.5 else rng.choice(FIGURES)


def _kinds(scene: SceneFacts, rng: Random, people: Sequence[str]) -> list[str]:
    roll = rng.random()
    if roll < 0.08:
        return rng.sample(FIGURES, 2)
    if roll < 0.78:
        return [_seen_figure(scene, rng)]
    return [rng.choice((*people, *_ANIMALS, *_FREE, *SHAPES))]


def _names(kind: str, rng: Random) -> tuple[str, ...]:
    """Some names of the set that fits, in its order or another; now and then words from anywhere."""
    known = kind in _SETS or kind in _ANIMALS or kind in _EVERYBODY
    if rng.random() < (0.08 if known else 0.9):
        pool = (*_PARTS, *COCO.names, *HAND.names)
        return tuple(rng.sample(pool, rng.choice((1, 1, 2, 2, 3, 4, 6))))
    names = _SETS["dog" if kind == "dog" or kind in _ANIMALS else "person"]
    roll = rng.random()
    if roll < 0.1:
        return names
    if roll < 0.18:
        return names[:12] if rng.random() < 0.5 else names[12:]
    chosen = rng.sample(names, rng.choice((1, 1, 1, 2, 2, 3, 3, 4, 5, 6, 8)))
    return tuple(chosen if rng.random() < 0.5 else sorted(chosen, key=names.index))


def _paired(kind: str, rng: Random) -> tuple[tuple[str, ...], str]:
    """Left and right of a name or two, as keypoints and as people say it: `eyes and shoulders`."""
    known = _SETS["dog" if kind == "dog" or kind in _ANIMALS else "person"]
    sided = [name.removeprefix("left ") for name in known if name.startswith("left ")]
    chosen = rng.sample(sided, rng.choice((1, 1, 1, 2)))
    names = [f"{side} {name}" for name in chosen for side in ("left", "right")]
    words = [rng.choice(("", "", "", "both ")) + plural(name) for name in chosen]
    if rng.random() < 0.2:
        alone = rng.choice([name for name in known if not name.startswith(("left ", "right "))])
        names, words = [*names, alone], [*words, alone]
    return tuple(names), enumerate_words(words)


def _written_kinds(kinds: Sequence[str], rng: Random) -> str:
    return enumerate_words([_written(kind, rng) for kind in kinds])


def _written(kind: str, rng: Random) -> str:
    roll = rng.random()
    if roll < 0.45:
        return kind
    if roll < 0.7:
        return f"{rng.choice(('the', 'the', 'every', 'each'))} {kind}"
    if roll < 0.95:
        return f"{rng.choice(('', 'the ', 'all '))}{plural(kind)}"
    return article(kind)


def _listed(names: Sequence[str], rng: Random) -> str:
    return ", ".join(names) if rng.random() < 0.6 else enumerate_words(names)


def _said(wording: Wording, kinds: str, names: str, rng: Random) -> str:
    if wording.free:
        return wording.said(rng, c=kinds, k=names)
    return _filled(wording.template, kinds, names, rng)


def _filled(template: str, kinds: str, names: str, rng: Random) -> str:
    if "," in names or " and " in names:
        template = template.replace("is the {k}", "are the {k}").replace("does the {k}", "do the {k}")
    text = template.format(c=kinds, k=names)
    if rng.random() < 0.15:
        text = rng.choice(("please ", "please ", "can you ", "could you ")) + text
    if rng.random() < 0.3 and text[-1] not in ".?":
        text += "."
    return text[0].upper() + text[1:] if rng.random() < 0.6 else text
