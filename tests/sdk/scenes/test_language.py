from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk.scenes.expressions import EXPRESSION_KINDS, PLACES, place_of, stands, unique_names
from visionllm_sdk.scenes.facts import COLOURS, SHAPES, SIZES, ObjectFacts, SceneFacts
from visionllm_sdk.scenes.labels import Label, article, matching, parse_label, plural
from visionllm_sdk.scenes.language import (
    MAKERS,
    VQA_KINDS,
    Link,
    Sighting,
    caption_of,
    compared,
    found_sentence,
    request_labels,
    told_sightings,
    tool_result,
)
from visionllm_sdk.scenes.phrases import HELD_OUT, TRAINING


def thing(kind: str, colour: str | None, x: float, y: float, size: float = 20) -> ObjectFacts:
    word = "small" if size < 17 else "medium" if size < 30 else "large"
    half = size / 2
    return ObjectFacts(kind, colour, word, (x - half, y - half, x + half, y + half), size)


@pytest.fixture
def scene() -> SceneFacts:
    return SceneFacts(
        100,
        100,
        (
            thing("star", "red", 15, 15, 12),
            thing("circle", "blue", 50, 50, 40),
            thing("star", "green", 85, 85, 22),
            thing("person", None, 85, 15, 24),
        ),
    )


labels = st.builds(
    Label,
    kind=st.sampled_from((*SHAPES, "object")),
    colour=st.sampled_from((None, *COLOURS)),
    size=st.sampled_from((None, *SIZES)),
)


@given(labels, st.booleans(), st.booleans())
def test_a_label_is_read_back_in_any_form(label: Label, many: bool, loud: bool) -> None:
    text = plural(label.text) if many else article(label.text)
    assert parse_label(text.upper() if loud else text) == label


@pytest.mark.parametrize(
    ("noun", "expected"),
    [
        ("red cross", "red crosses"),
        ("person", "people"),
        ("box", "boxes"),
        ("berry", "berries"),
        ("key", "keys"),
    ],
)
def test_plurals(noun: str, expected: str) -> None:
    assert plural(noun) == expected


@pytest.mark.parametrize("text", ["", "forklift", "red", "red blue star", "the", "star red"])
def test_foreign_words_are_no_label(text: str) -> None:
    assert parse_label(text) is None


def test_synonyms() -> None:
    assert parse_label("a tiny violet disc") == Label("circle", "purple", "small")


def test_a_figure_bears_no_colour(scene: SceneFacts) -> None:
    assert matching(Label("person"), scene.objects) == [3]
    assert matching(Label("person", "red"), scene.objects) == []
    assert matching(Label(), scene.objects) == [0, 1, 2, 3]


def test_expressions_mean_one_object(scene: SceneFacts) -> None:
    found = {text: i for i in range(4) for make in EXPRESSION_KINDS.values() for text in make(i, scene)}
    assert found["the red star"] == 0
    assert found["the smallest object"] == 0
    assert found["the largest object"] == 1
    assert found["the star at the bottom right"] == 2
    assert found["the rightmost star"] == 2
    assert found["the star left of the circle"] == 0
    assert "the star" not in found
    assert "the rightmost object" not in found  # two things stand at the same x


def test_no_expression_is_shared(scene: SceneFacts) -> None:
    said = [text for i in range(4) for make in EXPRESSION_KINDS.values() for text in set(make(i, scene))]
    assert len(said) == len(set(said))


def test_places_and_relations(scene: SceneFacts) -> None:
    assert [place_of(t, scene) for t in scene.objects] == ["top left", "center", "bottom right", "top right"]
    assert {place for row in PLACES for place in row} >= {"top", "left", "center"}
    star, circle = scene.objects[:2]
    assert stands(star, "left of", circle, scene) is True
    assert stands(star, "below", circle, scene) is False
    assert stands(star, "below", thing("ring", "red", 60, 16), scene) is None
    assert place_of(thing("ring", "red", 33, 50), scene) is None


def test_unique_names(scene: SceneFacts) -> None:
    assert [name.text for name in unique_names(0, scene)] == [
        "red star",
        "small red star",
        "small star",
        "red object",
    ]


def test_caption_in_reading_order(scene: SceneFacts) -> None:
    assert caption_of(scene) == ("A small red star, a person, a large blue circle and a medium green star.")


@given(st.integers(0, 10**6), st.sampled_from(tuple(MAKERS)), st.sampled_from((TRAINING, HELD_OUT)))
def test_every_reply_is_true(seed: int, kind: str, phrases: dict[str, tuple[str, ...]]) -> None:
    from visionllm_adapters.recipe.symbols import random_scene

    rng = Random(seed)
    facts = random_scene(rng)
    exchange = MAKERS[kind](facts, rng, phrases)
    if exchange is None:
        return
    assert exchange.question
    assert exchange.answer
    if kind in {"detect", "segment", "ground", "mixed", "existence", "count"}:
        assert exchange.links
    if kind in {"small_talk", "caption", "colour", "shape"}:
        assert not exchange.links
    for link in exchange.links:
        assert link.token in {"[DET]", "[SEG]", "[GRD]"}
        if link.referent is None:
            assert link.label == parse_label(link.text)
        else:
            assert link.label is not None
            assert link.label.matches(facts.objects[link.referent])
    if kind in VQA_KINDS:
        assert exchange.last_words == exchange.last_words.lower()
    if kind == "count":
        assert 0 <= int(exchange.last_words) <= len(facts.objects)


@given(st.integers(0, 10**6), st.integers(1, 12))
def test_request_labels_are_different(seed: int, count: int) -> None:
    from visionllm_adapters.recipe.symbols import random_scene

    rng = Random(seed)
    names = [text for text, _ in request_labels(random_scene(rng), rng, count)]
    assert len(set(names)) == len(names) == count


def test_training_never_says_what_evaluation_asks() -> None:
    for kind, sentences in HELD_OUT.items():
        assert not set(sentences) & set(TRAINING[kind]), kind


def test_tool_results_read_like_english(scene: SceneFacts) -> None:
    assert found_sentence([("red star", 1), ("cross", 2), ("dog", 0)]) == "1 red star, 2 crosses, no dog"
    request = MAKERS["detect"](scene, Random(3), TRAINING)
    assert request is not None
    result = tool_result(scene, Random(1), request)
    assert result.role == "tool"
    assert result.text == f"I found {result.question}"
    assert not any(isinstance(part, Link) for part in result.answer)


def test_questions_of_counts_are_answered_from_what_the_tool_found(scene: SceneFacts) -> None:
    found = set()
    for seed in range(60):
        asked = MAKERS["count"](scene, Random(seed), TRAINING)
        assert asked is not None
        told = tool_result(scene, Random(seed), asked)
        number = told.question.split()[0].replace("no", "0")
        assert told.text == asked.last_words == number
        found.add(number)
    assert found >= {"0", "1", "2", "4"}


def test_where_a_thing_is(scene: SceneFacts) -> None:
    star, ring = Sighting("the red star", (0.15, 0.15), 0.12), Sighting("the ring", (0.5, 0.5), 0.4)
    assert told_sightings([star]) == ["the red star at the top left"]
    assert told_sightings([star, ring, star])[1] == "the ring in the center"
    assert told_sightings([star, ring])[1] == "the ring in the center (left of, above, smaller)"
    assert Sighting("the ring", (1.0, 0.0), 0.4).text == "the ring at the top right"

    for seed in range(60):
        asked = MAKERS["position"](scene, Random(seed), TRAINING)
        if asked is None or len(asked.links) != 1:
            continue
        told = tool_result(scene, Random(seed), asked)
        assert f" the {asked.final}." in told.question
        assert told.text == asked.final


@given(*[st.tuples(*[st.floats(0, 1)] * 2, st.floats(0.05, 1))] * 2)
def test_comparisons_turn_around(one: tuple[float, float, float], other: tuple[float, float, float]) -> None:
    first, second = (Sighting("it", place[:2], place[2]) for place in (one, other))
    swap = dict(zip(("left of", "above", "smaller"), ("right of", "below", "larger"), strict=True))
    swap |= {value: key for key, value in swap.items()}
    words = compared(first, second).strip(" ()")
    back = [swap[word] for word in words.split(", ")] if words else []
    assert compared(second, first).strip(" ()") == ", ".join(back)


def test_a_list_of_the_star_and_the_circle_means_kinds(scene: SceneFacts) -> None:
    lists = [
        exchange
        for seed in range(300)
        if (exchange := MAKERS["detect"](scene, Random(seed), TRAINING)) is not None
        and all(f"the {link.text}" in exchange.question.lower() for link in exchange.links)
        and len(exchange.links) > 1
    ]
    assert len(lists) > 5
    assert {link.token for exchange in lists for link in exchange.links} == {"[DET]"}
    assert not any(link.referent is not None for exchange in lists for link in exchange.links)


def test_one_sentence_may_point_at_two_things(scene: SceneFacts) -> None:
    exchanges = [MAKERS["ground"](scene, Random(seed), TRAINING) for seed in range(200)]
    pairs = [one.links for one in exchanges if one is not None and len(one.links) == 2]
    assert len(pairs) > 5
    for first, second in pairs:
        assert first.token == second.token == "[GRD]"
        assert first.referent != second.referent
    held_out = [MAKERS["ground"](scene, Random(seed), HELD_OUT) for seed in range(200)]
    assert all(one is not None and len(one.links) == 1 for one in held_out)


def test_what_is_claimed_of_a_thing_is_looked_up(scene: SceneFacts) -> None:
    """Training also asks whether the circle is blue, of things that the rest of their name tells apart."""
    of_colour = re.compile(r"is the (?:(small|medium|large) )?(star|circle) (\w+)\?", re.IGNORECASE)
    seen = set()
    for seed in range(1500):
        asked = MAKERS["existence"](scene, Random(seed), TRAINING)
        assert asked is not None
        if (claim := of_colour.fullmatch(asked.question)) is None:
            continue
        size, kind, colour = claim.groups()
        (meant,) = matching(Label(kind, size=size), scene.objects)
        assert asked.final == ("yes" if scene.objects[meant].colour == colour else "no")
        assert isinstance(asked.answer[0], Link)
        assert asked.answer[0].label == Label(kind, colour, size)
        seen.add(asked.final)
    assert seen == {"yes", "no"}


def test_the_evaluation_claims_nothing(scene: SceneFacts) -> None:
    asked = [MAKERS["existence"](scene, Random(seed), HELD_OUT) for seed in range(300)]
    assert not any("the circle" in one.question for one in asked if one is not None)
