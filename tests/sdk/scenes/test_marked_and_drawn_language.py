from __future__ import annotations

from random import Random

import pytest

from visionllm_adapters.recipe.symbols import random_scene
from visionllm_sdk.keypoints import AP10K, COCO
from visionllm_sdk.scenes.captions import caption_text
from visionllm_sdk.scenes.checker import Asked
from visionllm_sdk.scenes.drawing_language import (
    DRAWING_HELD_OUT,
    DRAWING_MAKERS,
    DRAWING_TRAINING,
    DrawLink,
    EditWords,
    edit,
    generate,
)
from visionllm_sdk.scenes.labels import plural
from visionllm_sdk.scenes.phrases import Phrases
from visionllm_sdk.scenes.pose_language import (
    POSE_HELD_OUT,
    POSE_MAKERS,
    POSE_TRAINING,
    pose,
    whole_pose,
)
from visionllm_sdk.scenes.region_language import (
    REGION_HELD_OUT,
    REGION_MAKERS,
    REGION_TRAINING,
    RegionExchange,
    in_context,
    interactive,
)

SPOKEN = [
    (POSE_TRAINING, POSE_HELD_OUT, POSE_MAKERS),
    (REGION_TRAINING, REGION_HELD_OUT, REGION_MAKERS),
    (DRAWING_TRAINING, DRAWING_HELD_OUT, DRAWING_MAKERS),
]


@pytest.mark.parametrize(("training", "held_out", "makers"), SPOKEN)
def test_every_kind_has_its_sentences(
    training: Phrases, held_out: Phrases, makers: dict[str, object]
) -> None:
    assert set(held_out) == set(training)
    for kind in ("describe", "recognise", "interactive", "pose", "whole_pose", "generate", "remove"):
        if kind in training:
            assert len(set(held_out[kind]) - set(training[kind])) >= 2


def test_a_polite_word_does_not_make_a_pose_sentence_held_out() -> None:
    for kind, sentences in POSE_HELD_OUT.items():
        bare = {
            one.removeprefix("please ").removeprefix("can you ").removeprefix("could you ")
            for one in sentences
        }
        taught = {one.rstrip("?") for one in POSE_TRAINING[kind]}
        assert {one.rstrip("?") for one in bare} & taught <= {
            "Detect {c} with the keypoints {k}"
        }  # of the paper


def test_a_pose_names_the_kind_and_then_the_keypoints() -> None:
    for seed in range(60):
        rng = Random(seed)
        exchange = pose(random_scene(rng), rng)
        tokens = [link.token for link in exchange.links]
        kinds = tokens.count("[DET]")
        assert 1 <= kinds <= 2
        assert tokens == ["[DET]"] * kinds + ["[POSE]"] * (len(tokens) - kinds)
        names = [link.text for link in exchange.links[kinds:]]
        assert len(set(names)) == len(names) >= 1
        question = exchange.question.lower()
        for name in names:
            side, _, part = name.partition(" ")
            pair = side in ("left", "right") and plural(part) in question
            assert name in question or (pair and {f"left {part}", f"right {part}"} <= set(names))


def test_training_names_eyes_and_the_evaluation_a_left_eye() -> None:
    pairs = {True: 0, False: 0}
    for phrases in (POSE_TRAINING, POSE_HELD_OUT):
        for seed in range(200):
            rng = Random(seed)
            exchange = pose(random_scene(rng), rng, phrases)
            names = [link.text for link in exchange.links if link.token == "[POSE]"]
            pairs[phrases is POSE_TRAINING] += any(name not in exchange.question.lower() for name in names)
    assert pairs[True] > 20
    assert pairs[False] == 0


def test_a_whole_pose_has_the_set_of_its_kind() -> None:
    sets = set()
    for seed in range(40):
        rng = Random(seed)
        exchange = whole_pose(random_scene(rng), rng)
        names = tuple(link.text for link in exchange.links[1:])
        assert names in (COCO.names, AP10K.names)
        assert (names == AP10K.names) >= (exchange.links[0].text == "dog")
        sets.add(names)
    assert len(sets) == 2


@pytest.mark.parametrize("kind", sorted(REGION_MAKERS))
def test_every_mark_lies_on_an_object(kind: str) -> None:
    for seed in range(60):
        rng = Random(seed)
        scene = random_scene(rng)
        exchange = REGION_MAKERS[kind](scene, rng, REGION_TRAINING)
        assert isinstance(exchange, RegionExchange)
        assert exchange.question.count("<region>") == len(exchange.regions) >= 1
        assert all(0 <= index < len(scene.objects) for index in exchange.regions)


def test_interactive_replies_name_the_marks_in_order() -> None:
    for seed in range(40):
        rng = Random(seed)
        scene = random_scene(rng)
        exchange = interactive(scene, rng)
        assert exchange is not None
        assert [link.text for link in exchange.links] == [
            f"region{i + 1}" for i in range(len(exchange.regions))
        ]
        for link, index in zip(exchange.links, exchange.regions, strict=True):
            assert link.referent == index
            assert link.label is not None
            assert link.label.kind == scene.objects[index].kind


def test_in_context_asks_for_a_kind_in_a_second_image() -> None:
    rng = Random(1)
    scene = random_scene(rng)
    exchange = in_context(scene, rng)
    assert exchange is not None
    assert exchange.question.count("<image>") == 1
    (link,) = exchange.links
    assert link.referent is None
    assert link.label is not None
    assert link.label.kind == scene.objects[exchange.regions[0]].kind


def test_captions_say_what_their_order_says() -> None:
    for seed in range(40):
        exchange = generate(random_scene(Random(seed)), Random(seed))
        (link,) = exchange.links
        assert isinstance(link, DrawLink)
        assert isinstance(link.order, Asked)
        assert caption_text(link.order) in exchange.question
        assert exchange.text == "Here it is ."


def test_instructions_say_what_their_order_says() -> None:
    operations = set()
    for seed in range(80):
        rng = Random(seed)
        exchange = edit(random_scene(rng), rng)
        (link,) = exchange.links
        assert isinstance(link, DrawLink)
        order = link.order
        assert isinstance(order, EditWords)
        said = (order.kind, order.colour, order.size, order.place, order.new_kind, order.new_colour)
        assert all(word in exchange.question.lower() for word in said if word is not None)
        operations.add(order.operation)
    assert operations == {"recolour", "remove", "add", "background"}
