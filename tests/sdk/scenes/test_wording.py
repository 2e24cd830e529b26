from __future__ import annotations

import re
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import visionllm_sdk.scenes.phrases.freely as free_texts
from visionllm_sdk.scenes import render, sample_scene, truth
from visionllm_sdk.scenes.expressions import reworded
from visionllm_sdk.scenes.facts import ObjectFacts, SceneFacts
from visionllm_sdk.scenes.language import MAKERS
from visionllm_sdk.scenes.phrases import HELD_OUT, TRAINING
from visionllm_sdk.scenes.phrases.freely import freely
from visionllm_sdk.scenes.pose_language import POSE_HELD_OUT, POSE_MAKERS, POSE_TRAINING
from visionllm_sdk.scenes.survey import SURVEY_HELD_OUT, SURVEY_TRAINING
from visionllm_sdk.scenes.wording import draw_wording, misspelt

AROUND = ("before", "after")
KINDS = tuple(sorted(file.stem for file in Path(free_texts.__file__).parent.glob("*.txt")))
SLOTS: dict[str, set[str]] = {
    **{kind: {"x"} for kind in ("detect", "segment", "ground", "colour", "shape", "position")},
    "at": {"place"},
    "count": {"many"},
    "larger": {"more", "x", "y"},
    "more": {"x", "y"},
    "pose": {"c", "k"},
    "relation": {"x", "relation", "y"},
    "whole_pose": {"c"},
}


def plain(sentence: str) -> str:
    """Letters and slots alone: a full stop more makes no other sentence."""
    return re.sub(r"[^a-z{} ]", "", sentence.lower()).strip()


def test_free_sentences_are_of_known_kinds() -> None:
    assert set(KINDS) - set(AROUND) <= {*TRAINING, *POSE_TRAINING, *SURVEY_TRAINING}
    assert freely("tool_result") == ()


@pytest.mark.parametrize("kind", KINDS)
def test_free_sentences_fit_their_kind(kind: str) -> None:
    sentences = freely(kind)
    assert len(sentences) == len(set(sentences)) >= 30
    for sentence in sentences:
        slots = re.findall(r"\{(\w*)\}", sentence)
        if kind == "off_topic":
            assert set(slots) <= {"noun"}
        elif kind == "existence":
            assert slots in (["a"], ["one"], ["many"])
        else:
            assert set(slots) == SLOTS.get(kind, set()), sentence
            assert len(slots) == len(set(slots)), sentence
        assert sentence == sentence.strip().lower()


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in AROUND])
def test_the_evaluation_asks_with_none_of_them(kind: str) -> None:
    asked = {**HELD_OUT, **POSE_HELD_OUT, **SURVEY_HELD_OUT}[kind]
    assert not set(map(plain, freely(kind))) & set(map(plain, asked))


def test_half_of_the_training_is_free_and_none_of_the_evaluation() -> None:
    rng = Random(0)
    free = [draw_wording("segment", TRAINING, rng).free for _ in range(400)]
    assert 150 < sum(free) < 250
    assert not any(draw_wording("segment", HELD_OUT, rng).free for _ in range(100))
    assert not any(
        draw_wording("whole_pose", POSE_HELD_OUT, rng, training=POSE_TRAINING).free for _ in range(100)
    )


def test_sentences_begin_with_capitals_all_or_none() -> None:
    rng = Random(2)
    said = {draw_wording("count", TRAINING, rng).said(rng, bare=True, many="stars") for _ in range(600)}
    twofold = [text for text in said if re.search(r"\w\w[.?!] [A-Za-z]", text)]
    assert len(twofold) > 20
    for text in twofold:
        starts = re.findall(r"(?:^|(?<=\w\w[.?!] ))[A-Za-z]", text)
        assert len({start.isupper() for start in starts}) == 1, text


def test_what_stands_around_leaves_the_sentence_whole() -> None:
    rng = Random(1)
    for _ in range(200):
        wording = draw_wording("detect", TRAINING, rng)
        assert wording.template.format(x="red stars").lower() in wording.said(rng, x="red stars").lower()


@given(st.lists(st.sampled_from(("{x}", "{c}'s", "find", "a", "boxes,", "every", "picture")), max_size=8))
def test_one_word_is_misspelt_and_no_slot(words: list[str]) -> None:
    typed = misspelt(" ".join(words), Random(len(words))).split()
    changed = [(one, other) for one, other in zip(words, typed, strict=True) if one != other]
    candidates = [word for word in words if word in ("find", "every", "picture")]
    assert len(changed) == (1 if candidates and len(words) > 2 else 0)
    for one, other in changed:
        assert one in candidates
        assert one[0] == other[0]
        assert abs(len(one) - len(other)) <= 1


def test_only_training_is_hasty() -> None:
    scene = SceneFacts(100, 100, (ObjectFacts("star", "red", "small", (5, 5, 15, 15), 10),))
    for phrases, some in ((TRAINING, True), (HELD_OUT, False)):
        said = [
            exchange
            for seed in range(300)
            for kind in ("detect", "ground")
            if (exchange := MAKERS[kind](scene, Random(seed), phrases))
        ]
        bare = {one.kind for one in said if one.question.rstrip(".? ").lower() == one.links[0].text.lower()}
        assert bare == ({"detect", "ground"} if some else set())


def test_only_training_lists_without_an_and_and_shouts() -> None:
    scene = SceneFacts(100, 100, (ObjectFacts("star", "red", "small", (5, 5, 15, 15), 10),))
    for phrases, some in ((TRAINING, True), (HELD_OUT, False)):
        said = [MAKERS["detect"](scene, Random(seed), phrases) for seed in range(400)]
        joined = [one for one in said if one and re.search(r" [&+/] |; ", one.question)]
        loud = [one for one in said if one and one.links[0].text.upper() in one.question]
        assert (len(joined) > 5, len(loud) > 2) == (some, some)
        for one in (*joined, *loud):
            assert all(link.text == link.text.lower() for link in one.links)


def test_what_is_whose_is_said_both_ways() -> None:
    scene = SceneFacts(100, 100, ())
    owned = {
        phrases is POSE_TRAINING: sum(
            "'s " in POSE_MAKERS["pose"](scene, Random(seed), phrases).question for seed in range(200)
        )
        for phrases in (POSE_TRAINING, POSE_HELD_OUT)
    }
    assert owned[True] > 15 > owned[False]


@pytest.mark.parametrize(
    "expression",
    [
        "the largest star", "the smallest red ring", "the leftmost dog", "the rightmost object",
        "the topmost heart", "the lowest circle", "the moon in the center", "the star at the top left",
        "the ring at the bottom", "the star to the left of the dog", "the star right of the red ring",
        "the dog above the moon", "the dog under the moon", "the red ring",
    ],
)  # fmt: skip
def test_expressions_have_other_words(expression: str) -> None:
    others = {reworded(expression, Random(seed)) for seed in range(30)}
    assert len(others) >= 2
    things = set(re.findall(r"star|ring|dog|object|heart|circle|moon|red", expression))
    for other in others - {expression}:
        assert things <= set(other.replace("furthest", "").split()), other


def test_the_evaluation_keeps_to_plain_expressions() -> None:
    spec = sample_scene(4)
    scene = truth(spec, render(spec)).facts()
    for seed in range(60):
        exchange = MAKERS["ground"](scene, Random(seed), HELD_OUT)
        if exchange is not None:
            assert not {"corner", "edge", "furthest", "beneath"} & set(exchange.question.split())


def test_training_never_sees_the_sentences_of_strangers() -> None:
    from tests.quality.strangers import WORDINGS

    taught = {plain(text) for kind in KINDS for text in freely(kind)}
    for texts in (text for manner in WORDINGS.values() for text in manner.values()):
        assert not taught & {plain(text) for text in texts}
