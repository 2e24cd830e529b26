from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.sdk.model.reference import GOLDENS, golden, reference_model
from visionllm_sdk.errors import CheckpointError, ConfigError
from visionllm_sdk.model.conversation import INTERNLM2_CHAT, VICUNA_V1, Turn
from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, Control, TextTokenizer

RECORDED = json.loads((GOLDENS / "golden_preprocess.json").read_text())
PATCHES = {"tiny_core": 16, "variant_core": 4}


def tokenizer(name: str = "tiny_core") -> TextTokenizer:
    return reference_model(name).tokenizer


def recorded_turns(name: str) -> list[Turn]:
    parse = tokenizer().parse_template
    pairs = RECORDED["prompts"][name]["conversation"]
    return [Turn(tuple(parse(question)), tuple(parse(answer))) for question, answer in pairs]


def with_patches(ids: list[int], marks: list[bool], words: TextTokenizer, count: int) -> tuple[list, list]:
    image, patch = words.control_id("<image>"), words.control_id("<im_patch>")
    new_ids = [i for index in ids for i in ([patch] * count if index == image else [index])]
    new_marks = [
        mark for index, mark in zip(ids, marks, strict=True) for _ in range(count if index == image else 1)
    ]
    return new_ids, new_marks


@pytest.mark.parametrize("name", list(RECORDED["prompts"]))
def test_prompts_equal_the_recorded_ids_and_labels(name: str):
    words = tokenizer()
    ids, marks = with_patches(*words.encode(VICUNA_V1.render(recorded_turns(name))), words, 16)
    assert ids == RECORDED["prompts"][name]["input_ids"]
    labels = [index if mark else -100 for index, mark in zip(ids, marks, strict=True)]
    assert labels == RECORDED["prompts"][name]["labels"]


@pytest.mark.parametrize("name", list(RECORDED["prompts"]))
def test_new_spacing_equals_the_recorded_ids(name: str):
    old = tokenizer()
    words = TextTokenizer(
        (GOLDENS / "tiny_core/tokenizer.model").read_bytes(), old.added, legacy_spacing=False
    )
    ids, marks = with_patches(*words.encode(VICUNA_V1.render(recorded_turns(name))), words, 16)
    recorded = RECORDED["prompts_legacy_false"][name]
    assert ids == recorded["input_ids"]
    if name != "vqa":  # the original loses all labels of this conversation by a wrong count
        assert [index if mark else -100 for index, mark in zip(ids, marks, strict=True)] == recorded["labels"]


def test_internlm2_chat_equals_the_recorded_ids_and_labels():
    words = tokenizer("variant_core")
    turns = [
        Turn((Control("<image>"), "\nWhat is in the image?"), ("A zebra.",)),
        Turn(("Where is it?",), ("Under an umbrella.",)),
    ]
    ids, marks = with_patches(*words.encode(INTERNLM2_CHAT.render(turns)), words, 4)
    values = golden("variant_golden_mm_vqa")
    assert ids == values["input_ids"][0].tolist()
    assert [index if mark else -100 for index, mark in zip(ids, marks, strict=True)] == values["labels"][
        0
    ].tolist()


def test_internlm2_chat_prompt_equals_the_recorded_text():
    words = tokenizer("variant_core")
    turns = [
        Turn((Control("<image>"), "\nWhat is in the image?"), ("A zebra.",)),
        Turn(("Where is it?",)),
    ]
    ids, _ = words.encode(INTERNLM2_CHAT.render(turns))
    recorded = json.loads((GOLDENS / "golden_preprocess_internlm2_chat.json").read_text())["prompt"]
    assert words.decode(ids, controls=True) == "<s>" + recorded


SPELLINGS = st.sampled_from([*CONTROL_TOKENS, "</s>", "<s>", "<unk>", "<0x0A>"])


@given(st.lists(st.one_of(SPELLINGS, st.text(max_size=12)), max_size=8))
def test_user_text_never_becomes_a_control_token(pieces: list[str]):
    words = tokenizer()
    text = "".join(pieces)
    for ids in (words.encode_user_text(text), words.encode([(text, False)])[0]):
        assert all(words.control_text(index) is None for index in ids)


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=30))
def test_text_survives_encoding(text: str):
    words = tokenizer()
    kept = text.replace("\u2581", " ").replace("\0", "")
    assert words.decode(words.encode_user_text(kept)).strip() == kept.strip()


def test_a_template_holds_control_tokens():
    words = tokenizer()
    ids = words.encode_template("person[DET]")
    assert ids[-1] == words.control_id("[DET]")
    assert words.decode(ids, controls=True) == "person[DET]"


def test_the_added_tokens_stand_in_their_released_order():
    assert list(tokenizer().added) == list(CONTROL_TOKENS)


def test_text_around_control_tokens_reads_well():
    words = tokenizer()
    ids = words.encode_template("A <det>dog</det>[DET] on a <det>sofa</det>[DET], as asked.")
    assert words.decode(ids) == "A dog on a sofa, as asked."


def test_marks_follow_the_parts():
    words = tokenizer()
    ids, marks = words.encode([("USER: hello ASSISTANT:", False), (" A dog.", True), (Control("</s>"), True)])
    supervised = [index for index, mark in zip(ids, marks, strict=True) if mark]
    assert words.decode(supervised, controls=True) == "A dog.</s>"


def test_further_control_tokens_go_to_the_end():
    words = tokenizer()
    more = words.with_controls(["[DEPTH]", "[DET]"])
    assert more.control_id("[DEPTH]") == words.vocab_size
    assert more.vocab_size == words.vocab_size + 1
    assert more.control_id("[DET]") == words.control_id("[DET]")


def test_a_saved_tokenizer_is_the_same(tmp_path: Path):
    words = tokenizer()
    words.save(tmp_path)
    again = TextTokenizer.from_folder(tmp_path)
    assert again.added == words.added
    assert again.encode_template("a [DET] b") == words.encode_template("a [DET] b")


def test_a_missing_model_is_named(tmp_path: Path):
    with pytest.raises(CheckpointError, match="no tokenizer"):
        TextTokenizer.from_folder(tmp_path)


def test_a_broken_model_is_refused():
    with pytest.raises(CheckpointError, match="not a sentencepiece model"):
        TextTokenizer(b"no model", {})


@pytest.mark.parametrize("content", ["{", "[1]"])
def test_broken_added_tokens_are_refused(tmp_path: Path, content: str):
    tokenizer().save(tmp_path)
    (tmp_path / "added_tokens.json").write_text(content)
    with pytest.raises(CheckpointError, match="added_tokens"):
        TextTokenizer.from_folder(tmp_path)


def test_ids_inside_the_vocabulary_are_refused():
    model = (GOLDENS / "tiny_core/tokenizer.model").read_bytes()
    with pytest.raises(ConfigError, match="ids of the sentencepiece vocabulary"):
        TextTokenizer(model, {"[DET]": 300})
    with pytest.raises(ConfigError, match="same id"):
        TextTokenizer(model, {"[DET]": 600, "[SEG]": 600})


def test_an_unknown_control_token_is_named():
    with pytest.raises(ConfigError, match=r"\[DEPTH\]"):
        tokenizer().control_id("[DEPTH]")
