from __future__ import annotations

import json
import random

import pytest
import torch

from visionllm_sdk import VisionLLM
from visionllm_sdk.agent.constrain import Constraint, Vocabulary
from visionllm_sdk.agent.grammar import Characters, Grammar, Literal, choice
from visionllm_sdk.agent.patterns import PLAIN
from visionllm_sdk.agent.schema import schema_grammar


@pytest.fixture
def vocabulary(random_vlm: VisionLLM) -> Vocabulary:
    return random_vlm.workspace.vocabulary


def decode(grammar: Grammar, vocabulary: Vocabulary, vlm: VisionLLM, *, budget: int, seed: int) -> str:
    """What comes out if the scores are noise."""
    noise = torch.Generator().manual_seed(seed)
    constraint = Constraint(grammar, vocabulary, start=3, budget=budget)
    ids = [1, 5, 5]
    while len(ids) - 3 < budget:
        scores = torch.randn(1, vlm.engine.model.tokenizer.vocab_size, generator=noise)
        chosen = int(constraint(torch.tensor([ids]), scores).argmax())
        if chosen in vocabulary.stop_ids:
            break
        ids.append(chosen)
    return vlm.engine.model.tokenizer.decode(ids[3:])


SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "size": {"type": "number", "minimum": 0, "maximum": 10},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
    },
    "required": ["name", "size", "tags"],
}


@pytest.mark.parametrize("budget", [36, 50, 300])
def test_noise_becomes_valid_json_within_the_budget(
    budget: int, vocabulary: Vocabulary, random_vlm: VisionLLM
) -> None:
    grammar = schema_grammar(SCHEMA)
    assert grammar.shortest < 36
    for seed in range(3):
        data = json.loads(decode(grammar, vocabulary, random_vlm, budget=budget, seed=seed))
        assert set(data) == {"name", "size", "tags"}
        assert 0 <= data["size"] <= 10


def test_unicode_is_written_byte_by_byte(vocabulary: Vocabulary, random_vlm: VisionLLM) -> None:
    grammar = choice([Literal('"你好啊"'), Literal('"こんにちは"')])
    # A blank may stand in front: sentencepiece starts words with one.
    texts = {decode(grammar, vocabulary, random_vlm, budget=40, seed=seed).lstrip() for seed in range(24)}
    assert texts == {'"你好啊"', '"こんにちは"'}


def test_the_whole_vocabulary_agrees_with_single_tokens(vocabulary: Vocabulary) -> None:
    grammar = choice([Characters(2, 5, PLAIN), Literal('say "red" 12')])
    room = 9
    one_by_one = [
        index
        for index, surface in vocabulary.surfaces.items()
        if (rest := grammar.walk(surface)) is not None and rest.shortest <= room
    ]
    assert sorted(vocabulary.allowed(grammar, room)) == one_by_one
    assert len(one_by_one) > 50


def test_a_constraint_serves_a_second_try(vocabulary: Vocabulary, random_vlm: VisionLLM) -> None:
    constraint = Constraint(Literal("red circle"), vocabulary, start=1, budget=20)
    scores = torch.zeros(1, random_vlm.engine.model.tokenizer.vocab_size)
    first = constraint(torch.tensor([[1]]), scores)
    chosen = int(first.argmax())
    constraint(torch.tensor([[1, chosen]]), scores)
    assert torch.equal(constraint(torch.tensor([[1]]), scores), first)


def test_surfaces_are_what_the_tokenizer_writes(vocabulary: Vocabulary, random_vlm: VisionLLM) -> None:
    tokenizer = random_vlm.engine.model.tokenizer
    dice = random.Random(0)
    for text in ("two red circles", 'naïve 你 \\ " x', "a  b"):
        ids = tokenizer.encode_user_text(text)
        assert b"".join(vocabulary.surfaces[index] for index in ids).decode().removeprefix(" ") == text
    for control in ("[DET]", "<det>", "</s>", "[EMB]"):
        assert tokenizer.control_id(control) not in vocabulary.surfaces
    assert dice.choice(list(vocabulary.surfaces)) >= 3
