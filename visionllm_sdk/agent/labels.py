"""Labels in the words of the conversation: what a request asks for is spelled as the request spells it.

A small model knows what to look for, but may slip when it spells a word that it has never seen. Between the
tags of a label it may therefore write only phrases of the conversation, in the singular or as they stand.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from torch import Tensor

from visionllm_sdk.agent.constrain import Vocabulary, keep_only
from visionllm_sdk.agent.grammar import Grammar
from visionllm_sdk.skills.engine import Engine

__all__ = ["LabelSpelling", "Tree", "phrases_of"]

_MAX_WORDS: Final = 12
_MAX_PHRASES: Final = 4000
_LONGEST: Final = 200  # characters of a phrase; nobody names things at greater length
_ANY_LENGTH: Final = 1 << 16
_BREAKS: Final = re.compile(r"[.,;:!?\n()]+(?=\s|$)|\b(?:and|or|then|also|plus)\b", re.IGNORECASE)
_ARTICLES: Final = ("a", "an", "the")
_SMALL: Final = frozenset(
    (
        "all", "any", "are", "at", "be", "by", "can", "could", "did", "do", "does", "each", "every", "find",
        "for", "from", "get", "give", "has", "have", "here", "i", "in", "is", "it", "just", "let", "like",
        "me", "mean", "my", "need", "now", "of", "ok", "okay", "on", "only", "please", "see", "show", "some",
        "tell", "that", "there", "these", "this", "those", "to", "want", "was", "were", "what", "where",
        "which", "will", "with", "would", "you", "your",
    )
)  # fmt: skip
_IRREGULAR: Final = {"people": "person", "men": "man", "women": "woman", "children": "child",
                     "mice": "mouse", "teeth": "tooth", "feet": "foot", "geese": "goose"}  # fmt: skip
_ENDINGS: Final = (("'s", ""), ("\u2019s", ""), ("ies", "y"), ("ves", "f"), ("ves", "fe"), ("xes", "x"),
                   ("ches", "ch"), ("shes", "sh"),
                   ("sses", "ss"), ("oes", "o"), ("buses", "bus"), ("s", ""))  # fmt: skip
"""Endings of plurals and possessives, and what stands there in the singular."""


class Tree(Grammar):
    """Any of many texts, as a tree of their bytes.

    Args:
        texts: the texts.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self.ends = False
        self.shortest = 0
        self._branches: dict[int, Tree] = {}
        for text in texts:
            self._plant(text.encode())

    def _plant(self, data: bytes) -> None:
        node = self
        for place, byte in enumerate(data):
            left = len(data) - place
            node.shortest = min(node.shortest, left) if node.ends or node._branches else left
            node = node._branches.setdefault(byte, Tree())
        node.ends, node.shortest = True, 0

    def _derive(self, byte: int) -> Grammar | None:
        return self._branches.get(byte)


def phrases_of(text: str) -> Iterator[str]:
    """The phrases of a text that may name things: as they stand, and with a singular at the end."""
    for clause in _BREAKS.split(text.casefold()):
        words = clause.split()
        for start, first in enumerate(words):
            if first in _SMALL:
                continue
            for stop in range(start + 1, min(start + _MAX_WORDS, len(words)) + 1):
                last = words[stop - 1]
                if last in _SMALL or last in _ARTICLES:
                    continue
                head = words[start : stop - 1]
                phrases = [" ".join((*head, ending)) for ending in (last, *_singulars(last))]
                yield from (phrase for phrase in phrases if len(phrase) <= _LONGEST)


def _singulars(word: str) -> Iterator[str]:
    """What the word may be the plural of."""
    if word in _IRREGULAR:
        yield _IRREGULAR[word]
    for ending, single in _ENDINGS:
        if word.endswith(ending) and len(word) > len(ending) + 1 and not word.endswith("ss"):
            yield word.removesuffix(ending) + single


class LabelSpelling:
    """A logits processor for checkpoints with label tags: labels are phrases of the conversation.

    No label is written more often than the conversation says it.

    Args:
        engine: the model.
        vocabulary: of the checkpoint.
        texts: what the user said, the latest last.
        start: length of the prompt in tokens.
        known: names that may be written though nobody said them, such as the keypoints of a pose.
        after: routing tokens of which one must stand before such names.
    """

    def __init__(
        self,
        engine: Engine,
        vocabulary: Vocabulary,
        texts: Sequence[str],
        *,
        start: int,
        known: Iterable[str] = (),
        after: Iterable[str] = (),
    ) -> None:
        tokenizer = engine.model.tokenizer
        spoken = [phrase for text in reversed(texts) for phrase in phrases_of(text)]
        self._often = Counter(spoken[:_MAX_PHRASES])
        self._known = Counter(known)
        self._after = {tokenizer.control_id(token) for token in after}
        self._trees: dict[tuple[tuple[str, ...], bool], Tree] = {}
        self._vocabulary = vocabulary
        self._start = start
        tags = {engine.token(token).label_tag for token in engine.routing_tokens} - {None}
        self._closes = {tokenizer.control_id(f"<{tag}>"): tokenizer.control_id(f"</{tag}>") for tag in tags}

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Minus infinity, inside of a label, at every token that leads to no phrase.

        Args:
            ids: prompt and reply so far. (1, n)
            scores: (1, vocabulary)
        """
        reply = ids[0, self._start :].tolist()
        written, open_label, close = self._labels(reply)
        if open_label is None:
            return scores
        here = self._tree(written, not self._after.isdisjoint(reply)).walk(open_label)
        allowed = [] if here is None else self._vocabulary.allowed(here, _ANY_LENGTH)
        allowed += [close] if here is not None and here.ends else []
        if not allowed:  # the conversation says nothing that could stand here
            return scores
        return keep_only(scores, allowed)

    def _labels(self, reply: Sequence[int]) -> tuple[tuple[str, ...], bytes | None, int]:
        """Labels that are finished, the bytes of the one that is open (or None), and its closing tag."""
        written: list[str] = []
        label: bytes | None = None
        close = -1
        for index in reply:
            if index in self._closes:
                label, close = b"", self._closes[index]
            elif label is not None and index == close:
                written.append(label.decode(errors="replace").strip())
                label = None
            elif label is not None:
                label += self._vocabulary.surfaces.get(index, b"")
        return tuple(sorted(written)), label, close

    def _tree(self, written: tuple[str, ...], opened: bool) -> Tree:
        """The phrases that are left when these have been written; known names if `opened`.

        A label uses up the phrases inside of it: "small red object" leaves no "small red".
        """
        if (written, opened) not in self._trees:
            used = Counter(part for label in written for part in phrases_of(label)) | Counter(written)
            often = self._often | self._known if opened else self._often
            left = [phrase for phrase, count in often.items() if used[phrase] < count]
            self._trees[written, opened] = Tree([f" {phrase}" for phrase in left])
        return self._trees[written, opened]
