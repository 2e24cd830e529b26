"""How a request is put into words: a template, and what people write around it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import Final

from visionllm_sdk.scenes.phrases import GREETINGS, LEADS, TAILS, TRAINING, Phrases
from visionllm_sdk.scenes.phrases.freely import freely

_FREE: Final = 0.5
"""Share of whole sentences, in training."""
_AROUND: Final = 0.25
_SLIPS: Final = 0.12
"""Share of sentences with a misspelt word, in training."""
_MORE_SLIPS: Final = 0.3
"""Share of these with a second slip."""
_NO_ORDERS: Final = frozenset(
    ("i", "the", "please", "can", "could", "would", "do", "does", "is", "are", "what", "where", "which",
     "how", "of", "in", "on", "any", "yes", "object")
)  # fmt: skip
"""First words of sentences that are questions or statements."""


@dataclass(frozen=True, slots=True)
class Wording:
    """A template and how it is to be surrounded.

    Attributes:
        template: with slots such as `{x}`.
        free: it is a whole sentence.
    """

    template: str
    free: bool

    def said(self, rng: Random, *, bare: bool = False, **slots: str) -> str:
        """The request as a person may write it.

        Args:
            rng: chooses what stands around.
            bare: a short order stays as it is.
            slots: what fills the template.
        """
        sentence = self.template.format(**slots)
        if self.free:
            return _surrounded(sentence, rng)
        return sentence if bare else _decorated(sentence, rng)


def draw_wording(kind: str, phrases: Phrases, rng: Random, *, training: Phrases = TRAINING) -> Wording:
    """A template of that kind. In training half of them are whole sentences; the evaluation has its own.

    Args:
        kind: of request.
        phrases: short orders by kind.
        rng: chooses.
        training: short orders that training uses.
    """
    whole = freely(kind)
    free = bool(whole) and phrases is training and rng.random() < _FREE
    template = rng.choice(whole if free else phrases[kind])
    if phrases is training and rng.random() < _SLIPS:
        template = misspelt(template, rng)
        if rng.random() < _MORE_SLIPS:
            template = misspelt(template, rng)
    return Wording(template, free)


def misspelt(template: str, rng: Random) -> str:
    """One of the longer words as hurried people type it; slots stay as they are.

    Args:
        template: with slots such as `{x}`; of fewer than three words nothing is misspelt.
        rng: chooses the word and the slip: two letters swapped, one left out, or one twice.
    """
    words = template.split(" ")
    long = [index for index, word in enumerate(words) if len(word) > 3 and word.isalpha()]
    if len(words) < 3 or not long:
        return template
    index = rng.choice(long)
    word = words[index]
    at = rng.randrange(1, len(word) - 1)
    middle = rng.choice((word[at + 1] + word[at], word[at + 1], word[at] * 2 + word[at + 1]))
    words[index] = word[:at] + middle + word[at + 2 :]
    return " ".join(words)


def _decorated(sentence: str, rng: Random) -> str:
    order = sentence.split(maxsplit=1)[0] not in _NO_ORDERS
    text = rng.choice(GREETINGS) + (rng.choice(LEADS) if order else "") + sentence
    if text[-1] not in "?.:" and "{" not in text:
        text += rng.choice(TAILS)
        if rng.random() < 0.3:
            text += "?" if "can you " in text or "could you " in text else "."
    return begun(text, rng)


def _surrounded(sentence: str, rng: Random) -> str:
    text = sentence
    if rng.random() < _AROUND:
        text = f"{rng.choice(freely('before'))} {text}"
    if text[-1] not in "?.!:":
        if rng.random() < _AROUND:
            after = rng.choice(freely("after"))
            text += after if after.startswith(",") else f" {after}"
        if rng.random() < 0.3:
            text += "."
    return _capitalised(text) if rng.random() < 0.6 else text


def _capitalised(text: str) -> str:
    """Every sentence with a capital, and the word for oneself."""
    text = re.sub(r"\bi\b", "I", text)
    return re.sub(r"(?:^|(?<=\w\w[.?!] ))[a-z]", lambda letter: letter[0].upper(), text)


def begun(text: str, rng: Random) -> str:
    """The text with a capital letter, mostly."""
    return text[0].upper() + text[1:] if rng.random() < 0.6 else text
