from __future__ import annotations

import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk import VisionLLM
from visionllm_sdk.agent.constrain import Vocabulary
from visionllm_sdk.agent.labels import LabelSpelling, Tree, phrases_of
from visionllm_sdk.agent.routing import MustRoute, SaySomething, SoonRoute
from visionllm_sdk.keypoints import COCO

REQUEST = "Find all red circles, the star left of the ring and people"


@pytest.fixture
def vocabulary(random_vlm: VisionLLM) -> Vocabulary:
    return random_vlm.workspace.vocabulary


def test_phrases_name_things() -> None:
    found = set(phrases_of(REQUEST))
    assert {"red circle", "red circles", "circle", "the star left of the ring", "person"} <= found
    assert not {"all red circle", "circles the star", "left of", "of the ring", "ring and people"} & found
    assert "box" in set(phrases_of("Three boxes!"))
    assert "leaf" in set(phrases_of("leaves"))
    assert list(phrases_of("")) == []


@given(st.lists(st.text(min_size=1, max_size=6), max_size=8), st.text(max_size=6))
def test_trees_hold_what_was_planted(texts: list[str], other: str) -> None:
    texts = [text for text in texts if text.isprintable()]
    tree = Tree(texts)
    assert all(tree.accepts(text) for text in texts)
    if other.isprintable() and other not in texts:
        assert not tree.accepts(other)
    assert not texts or tree.shortest == min(len(text.encode()) for text in texts)


def write(processors: list[object], vlm: VisionLLM, *, seed: int, tokens: int = 200) -> str:
    """What comes out if the scores are noise: control tokens spelt out."""
    tokenizer = vlm.engine.model.tokenizer
    noise = torch.Generator().manual_seed(seed)
    ids = [1]
    while len(ids) <= tokens:
        scores = torch.randn(1, tokenizer.vocab_size, generator=noise)
        for processor in processors:
            scores = processor(torch.tensor([ids]), scores)  # type: ignore[operator]
        chosen = int(scores.argmax())
        assert scores[0, chosen] > -torch.inf
        if chosen in vlm.workspace.vocabulary.stop_ids:
            break
        ids.append(chosen)
    return tokenizer.decode(ids[1:], controls=True)


@pytest.mark.parametrize("seed", range(4))
def test_noise_becomes_labels_of_the_request(
    seed: int, vocabulary: Vocabulary, random_vlm: VisionLLM
) -> None:
    engine = random_vlm.engine
    tokens = ("[DET]", "[GRD]")
    must = MustRoute(engine, vocabulary, tokens, start=1)
    spelt = LabelSpelling(engine, vocabulary, [REQUEST], start=1)
    text = write([must, spelt], random_vlm, seed=seed)
    labels = [part.partition("</")[0] for part in text.replace("<grd>", "<det>").split("<det>")[1:]]
    assert labels
    assert all(label.strip() in set(phrases_of(REQUEST)) for label in labels)
    assert len(set(labels)) == len(labels)  # the request says everything once
    assert text.count("[DET]") + text.count("[GRD]") == len(labels)
    assert text.count("</det>[DET]") + text.count("</grd>[GRD]") == len(labels)


def test_no_label_is_said_more_often_than_the_request_says_it(
    vocabulary: Vocabulary, random_vlm: VisionLLM
) -> None:
    tokenizer = random_vlm.engine.model.tokenizer
    spelt = LabelSpelling(random_vlm.engine, vocabulary, ["detect star, segment star"], start=0)
    scores = torch.zeros(1, tokenizer.vocab_size)

    def may_follow(reply: str, label: str) -> bool:
        ids = tokenizer.encode_template(reply)
        whole = tokenizer.encode_template(f"{reply}{label}</det>")
        return all(
            spelt(torch.tensor([whole[:size]]), scores)[0, whole[size]] == 0
            for size in range(len(ids), len(whole))
        )

    assert may_follow("<det>", "star")
    assert may_follow("<det>star</det>[DET], <det>", "star")
    assert not may_follow("<det>star</det>[DET], <det>star</det>[SEG], <det>", "star")
    assert not may_follow("<det>", "ring")


def test_outside_of_labels_everything_goes(vocabulary: Vocabulary, random_vlm: VisionLLM) -> None:
    engine = random_vlm.engine
    scores = torch.randn(1, engine.model.tokenizer.vocab_size)
    spelt = LabelSpelling(engine, vocabulary, ["find the star"], start=0)
    for text in ("hello", "<det>star</det>[DET], "):
        ids = torch.tensor([engine.model.tokenizer.encode_template(text)])
        assert torch.equal(spelt(ids, scores), scores)
    silent = LabelSpelling(engine, vocabulary, ["?"], start=0)
    ids = torch.tensor([engine.model.tokenizer.encode_template("<det>")])
    assert torch.equal(silent(ids, scores), scores)


def test_a_reply_says_something(vocabulary: Vocabulary, random_vlm: VisionLLM) -> None:
    tokenizer = random_vlm.engine.model.tokenizer
    say = SaySomething(vocabulary, start=1)
    scores = torch.zeros(1, tokenizer.vocab_size)
    stop = list(vocabulary.stop_ids)
    blank = next(index for index, surface in vocabulary.surfaces.items() if surface == b" ")
    word = next(index for index, surface in vocabulary.surfaces.items() if surface.strip().isalpha())
    assert say(torch.tensor([[1]]), scores)[0, stop].tolist() == [-torch.inf]
    assert say(torch.tensor([[1, blank]]), scores)[0, stop].tolist() == [-torch.inf]
    assert say(torch.tensor([[1, blank, word]]), scores)[0, stop].tolist() == [0.0]


@pytest.mark.parametrize("seed", range(4))
def test_poses_open_with_the_kinds_of_objects(seed: int, whole_vlm: VisionLLM) -> None:
    """Whatever the scores: first whose keypoints, then at least one of them."""
    vocabulary = whole_vlm.workspace.vocabulary
    spelling = LabelSpelling(
        whole_vlm.engine, vocabulary, [REQUEST], start=1, known=COCO.names, after=["[DET]"]
    )
    must = MustRoute(whole_vlm.engine, vocabulary, ["[POSE]"], before=["[DET]"], start=1)
    text = write([must, spelling], whole_vlm, seed=seed, tokens=384)
    routed = re.findall(r"\[(?:DET|POSE)\]", text)
    assert routed[0] == "[DET]"
    assert "[POSE]" in routed[1:3]


@pytest.mark.parametrize("seed", range(3))
def test_a_token_without_labels_is_written_before_long(seed: int, whole_vlm: VisionLLM) -> None:
    token = whole_vlm.engine.model.tokenizer.control_id("[GEN]")
    text = write([SoonRoute(token, start=1)], whole_vlm, seed=seed, tokens=33)
    assert "[GEN]" in text


@pytest.mark.parametrize("seed", range(3))
def test_keypoints_that_nobody_named_stand_behind_whose_they_are(seed: int, whole_vlm: VisionLLM) -> None:
    """No request for categories or for an expression comes out as a knee."""
    vocabulary = whole_vlm.workspace.vocabulary
    spelling = LabelSpelling(
        whole_vlm.engine, vocabulary, ["apples"], start=1, known=["left knee"], after=["[DET]"]
    )
    for tokens, may in ((["[SEG]"], False), (["[DET]"], True)):
        must = MustRoute(whole_vlm.engine, vocabulary, tokens, start=1)
        text = write([must, spelling], whole_vlm, seed=seed)
        labels = re.findall(r">\s*([^<]+)</", text)
        assert set(labels[:1]) <= {"apple", "apples"}
        assert may or "left knee" not in labels[:2]


def test_texts_without_blanks_are_no_labels(random_vlm: VisionLLM) -> None:
    """Nor does their length matter: a tree of them would be as deep as they are long."""
    texts = ["请检测图片中的圆形和星形" * 40, "QUJD" * 300]
    spelling = LabelSpelling(random_vlm.engine, random_vlm.workspace.vocabulary, ["star", *texts], start=1)
    tokenizer = random_vlm.engine.model.tokenizer
    ids = torch.tensor([[1, *tokenizer.encode_template("<det>")]])
    kept = (spelling(ids, torch.zeros(1, tokenizer.vocab_size))[0] == 0).nonzero().flatten().tolist()
    surfaces = random_vlm.workspace.vocabulary.surfaces
    assert {surfaces[index].strip()[:1] for index in kept} - {b""} == {b"s"}


def test_a_tree_knows_the_shortest_rest_at_every_place() -> None:
    tree = Tree(["star", "st", "a" * 3000])
    assert (tree.shortest, tree.ends) == (2, False)
    for begun, shortest, ends in (
        (b"s", 1, False),
        (b"st", 0, True),
        (b"sta", 1, False),
        (b"a", 2999, False),
    ):
        rest = tree.walk(begun)
        assert rest is not None
        assert (rest.shortest, rest.ends) == (shortest, ends)
    assert Tree().shortest == 0


def test_words_of_one_label_are_not_used_for_a_second(random_vlm: VisionLLM) -> None:
    """What is left of the request after "small red object" is the star."""
    vocabulary, tokenizer = random_vlm.workspace.vocabulary, random_vlm.engine.model.tokenizer

    def begins(reply: str) -> set[bytes]:
        spelling = LabelSpelling(random_vlm.engine, vocabulary, ["small red object, star"], start=1)
        ids = torch.tensor([[1, *tokenizer.encode_template(reply)]])
        scores = spelling(ids, torch.zeros(1, tokenizer.vocab_size))[0]
        allowed = (scores == 0).nonzero().flatten().tolist()
        return {vocabulary.surfaces[index].strip()[:1] for index in allowed} - {b""}

    assert {b"s", b"o"} <= begins("<det>")
    assert begins("<det>small red object</det>[DET], <det>") == {b"s"}


def test_whose_it_is_names_a_thing() -> None:
    assert {"person", "person's"} <= set(phrases_of("Find the person's keypoints."))
    assert "dog" in set(phrases_of("the dog\u2019s ears"))
