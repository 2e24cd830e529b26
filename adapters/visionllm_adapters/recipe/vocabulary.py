"""Stage 1: a sentencepiece vocabulary from the sentences of the scenes' language."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from random import Random

from visionllm_adapters.recipe.symbols import random_scene
from visionllm_sdk.scenes.language import MAKERS, tool_result
from visionllm_sdk.scenes.phrases import FOLLOW_UPS, HELD_OUT, NOUNS, SHORT_ANSWER_HINT, TRAINING

SYSTEM = "A vision assistant answers a user."
RELEASED_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
SYSTEM_PROMPTS = (
    SYSTEM,
    RELEASED_SYSTEM,
    "You are a helpful assistant.",
    "You are a vision assistant. Use the tools.",
    "Answer briefly.",
    "You are an agent that can see. Be precise and concise.",
    "You inspect images for a customer.",
)


def sentences(count: int, seed: int = 0) -> Iterator[str]:
    """`count` lines of user and assistant text, and the words that must not fall apart."""
    rng = Random(seed)
    for _ in range(count):
        scene = random_scene(rng)
        exchange = rng.choice(tuple(MAKERS.values()))(scene, rng, TRAINING)
        if exchange is None:
            continue
        # The digit stands for the line break before a first question: pieces never join digits, so the
        # first word is learnt without a leading blank, as the tokenizer will meet it.
        glue = "1" if rng.random() < 0.5 else "USER: "
        yield f"{glue}{exchange.question} ASSISTANT: {exchange.text}"
        if exchange.links and rng.random() < 0.1:
            follow = tool_result(scene, rng, exchange)
            yield f"TOOL: {follow.question} ASSISTANT: {follow.text}"
    words = (
        *SYSTEM_PROMPTS,
        *NOUNS,
        *FOLLOW_UPS,
        SHORT_ANSWER_HINT,
        *["0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10"],
    )
    for _ in range(500):
        yield from (SYSTEM, f"1{SHORT_ANSWER_HINT}")
    for _ in range(10):
        yield from words
        yield from (f"1{word}" for word in FOLLOW_UPS)
        for phrases in (TRAINING, HELD_OUT):
            yield from (p for group in phrases.values() for p in group)


def train_vocabulary(folder: Path, *, size: int = 1400, count: int = 60_000) -> Path:
    """Write `folder/tokenizer.model`: byte-pair pieces with byte fallback, ids 0 unk, 1 bos, 2 eos."""
    import sentencepiece

    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences(count),
        model_prefix=str(folder / "tokenizer"),
        vocab_size=size,
        model_type="bpe",
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        unk_id=0,
        bos_id=1,
        eos_id=2,
        pad_id=-1,
        num_threads=1,
        split_digits=True,
        minloglevel=2,
    )
    return folder / "tokenizer.model"


def main() -> None:
    """`python -m visionllm_adapters.recipe.vocabulary --out DIR`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/embedded/vocabulary"))
    parser.add_argument("--size", type=int, default=1400)
    arguments = parser.parse_args()
    print(train_vocabulary(arguments.out, size=arguments.size))


if __name__ == "__main__":
    main()
