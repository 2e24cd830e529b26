from __future__ import annotations

from random import Random

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.errors import InputError
from visionllm_sdk.scenes import held_out_seeds, render, sample_scene, truth
from visionllm_sdk.scenes.captions import DRAWABLE, ask_for, caption_text, drawable
from visionllm_sdk.scenes.checker import Asked, AskedObject, AskedRelation, check, fits
from visionllm_sdk.scenes.facts import ObjectFacts, SceneFacts
from visionllm_sdk.scenes.seeing import UNKNOWN, look

SCENES = 40


def drawn(seed: int) -> tuple[Image.Image, SceneFacts, Asked]:
    spec = sample_scene(seed, options=DRAWABLE)
    rendered = render(spec)
    facts = truth(spec, rendered).facts()
    return rendered.image, facts, ask_for(facts, Random(seed))


@pytest.fixture(scope="module")
def pictures() -> list[tuple[SceneFacts, SceneFacts, Asked]]:
    """What is true, what is seen and what was asked, of held-out scenes."""
    rows = []
    for seed in held_out_seeds(SCENES, start=50_000):
        image, facts, asked = drawn(seed)
        rows.append((facts, look(image), asked))
    return rows


def test_true_renderings_are_accepted(pictures: list[tuple[SceneFacts, SceneFacts, Asked]]) -> None:
    assert all(fits(facts, asked).right for facts, _, asked in pictures)
    accepted = [fits(seen, asked).right for _, seen, asked in pictures]
    assert np.mean(accepted) >= 0.99


def test_renderings_of_other_captions_are_rejected(
    pictures: list[tuple[SceneFacts, SceneFacts, Asked]],
) -> None:
    rejected = []
    for shift in (1, 7, 23):
        for (facts, seen, _), (_, _, asked) in zip(
            pictures, pictures[shift:] + pictures[:shift], strict=True
        ):
            if not fits(facts, asked).right:  # another caption may be true by chance
                rejected.append(not fits(seen, asked).right)
    assert len(rejected) > 2 * SCENES
    assert np.mean(rejected) >= 0.99


@pytest.mark.slow
@pytest.mark.parametrize(("side", "effects"), [(128, 0.25), (64, 0.0)])
def test_decorated_and_noisy_renderings_are_accepted(side: int, effects: float) -> None:
    options = DRAWABLE.model_copy(update={"canvas": (side, side), "decoration": 0.25, "effects": effects})
    accepted = []
    for seed in held_out_seeds(300, start=60_000):
        spec = sample_scene(seed, options=options)
        rendered = render(spec)
        accepted.append(check(rendered.image, ask_for(truth(spec, rendered).facts(), Random(seed))).right)
    assert np.mean(accepted) >= 0.99


def test_a_single_wrong_word_is_noticed() -> None:
    image, facts, _ = drawn(900_050_003)
    exact = Asked(
        tuple(AskedObject(thing.kind, thing.colour) for thing in facts.objects), (), facts.background
    )
    assert check(image, exact).right
    first = exact.objects[0]
    colour = "red" if first.colour != "red" else "blue"
    recoloured = (AskedObject(first.kind, colour), *exact.objects[1:])
    verdict = check(image, Asked(recoloured, (), facts.background))
    assert (verdict.shapes, verdict.colours, verdict.background) == (True, False, True)
    kind = "ring" if first.kind != "ring" else "heart"
    reshaped = (AskedObject(kind, first.colour), *exact.objects[1:])
    assert not check(image, Asked(reshaped, (), facts.background)).shapes
    other = next(word for word in ("gray", "white") if word != facts.background)
    assert not check(image, Asked(exact.objects, (), other)).background


def two(relation: str) -> Asked:
    return Asked(
        (AskedObject("circle", "red"), AskedObject("star", "blue")), (AskedRelation(0, relation, 1),), "gray"
    )


def scene_of(*things: tuple[str, str, float, float]) -> SceneFacts:
    objects = tuple(
        ObjectFacts(kind, colour, "medium", (x - 5, y - 5, x + 5, y + 5), 10) for kind, colour, x, y in things
    )
    return SceneFacts(64, 64, objects, "gray")


def test_relations_and_extras() -> None:
    facts = scene_of(("circle", "red", 15, 30), ("star", "blue", 45, 40))
    assert fits(facts, two("left of")).right
    assert fits(facts, two("above")).right
    wrong = fits(facts, two("right of"))
    assert wrong.shapes
    assert not wrong.places
    more = fits(
        scene_of(("circle", "red", 15, 30), ("star", "blue", 45, 40), ("ring", "red", 30, 55)), two("above")
    )
    assert more.extra == 1
    assert not more.right
    less = fits(scene_of(("circle", "red", 15, 30)), two("above"))
    assert not less.shapes
    assert not less.right


def test_equal_things_are_taken_in_the_kindest_way() -> None:
    asked = Asked(
        (AskedObject("circle", "red"), AskedObject("circle", "blue")), (AskedRelation(0, "above", 1),)
    )
    assert fits(scene_of(("circle", "blue", 30, 50), ("circle", "red", 30, 12)), asked).right
    assert not fits(scene_of(("circle", "blue", 30, 12), ("circle", "red", 30, 50)), asked).right


@pytest.mark.parametrize(
    ("x", "y", "place", "right"),
    [
        (10, 10, "top left", True),
        (32, 32, "center", True),
        (54, 10, "top left", False),
        (24, 10, "top left", True),
    ],
)
def test_places(x: float, y: float, place: str, right: bool) -> None:
    asked = Asked((AskedObject("circle", "red", place=place),))
    assert fits(scene_of(("circle", "red", x, y)), asked).right is right


def test_an_empty_picture_and_a_scribble() -> None:
    empty = look(Image.new("RGB", (64, 64), (30, 200, 60)))
    assert empty.objects == ()
    assert empty.background == "green"
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    assert not check(Image.fromarray(noise), two("above")).right
    line = np.full((64, 64, 3), 255, np.uint8)
    line[30:33, 5:60] = (255, 0, 0)
    assert [thing.kind for thing in look(Image.fromarray(line)).objects] == [UNKNOWN]


def test_large_pictures_are_seen_in_their_own_pixels() -> None:
    image, facts, asked = drawn(900_050_011)
    large = image.resize((512, 512), Image.Resampling.BICUBIC)
    verdict = check(large, asked)
    assert verdict.right
    assert sorted(round(thing.diameter / 8) for thing in verdict.seen.objects) == pytest.approx(
        sorted(round(thing.diameter) for thing in facts.objects), abs=2
    )


def test_captions_in_words() -> None:
    assert caption_text(two("left of")) == "a red circle left of a blue star on a gray background"
    placed = Asked((AskedObject("ring", "orange", place="center"),), (), "white")
    assert caption_text(placed) == "an orange ring in the center on a white background"
    assert caption_text(Asked((AskedObject("heart"), AskedObject("cross", "pink", "large")))) == (
        "a heart and a large pink cross"
    )


def test_what_can_be_drawn() -> None:
    assert drawable(scene_of(("circle", "red", 15, 30)))
    assert not drawable(scene_of(("dog", "red", 15, 30)))
    assert not drawable(scene_of())


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: AskedObject("blob"),
        lambda: AskedObject("circle", "mauve"),
        lambda: AskedObject("circle", place="somewhere"),
        lambda: AskedRelation(0, "near", 1),
        lambda: Asked(()),
        lambda: Asked((AskedObject("circle"),) * 5),
        lambda: Asked((AskedObject("circle"),), (AskedRelation(0, "above", 1),)),
        lambda: Asked((AskedObject("circle"),), (), "plaid"),
    ],
)
def test_unknown_words_are_errors(wrong: object) -> None:
    with pytest.raises(InputError):
        wrong()  # type: ignore[operator]
