"""Decoding under a grammar: at every step only tokens that a grammar allows, and always time to finish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from visionllm_sdk.agent.grammar import Grammar, Literal, optional, row
from visionllm_sdk.model.tokenizer import TextTokenizer

__all__ = ["Constraint", "Vocabulary", "keep_only"]

_TRIED = 48  # likeliest tokens that are tried one by one before the whole vocabulary is walked


@dataclass(slots=True)
class _Branch:
    """Tokens by their bytes: one level of a tree."""

    tokens: list[int] = field(default_factory=list)
    branches: dict[int, _Branch] = field(default_factory=dict)


class Vocabulary:
    """What every token of a checkpoint writes.

    Args:
        tokenizer: of the checkpoint.
        stop_ids: ids that end a reply.
    """

    def __init__(self, tokenizer: TextTokenizer, *, stop_ids: Sequence[int]) -> None:
        self.stop_ids = tuple(stop_ids)
        self.surfaces: dict[int, bytes] = {}
        self._root = _Branch()
        for index in range(tokenizer.vocab_size):
            if surface := tokenizer.surface(index):
                self.surfaces[index] = surface
                self._plant(index, surface)

    @cached_property
    def pieces(self) -> Tensor:
        """All tokens that write something. (n,)"""
        return torch.tensor([*self.surfaces])

    @cached_property
    def visible(self) -> Tensor:
        """All tokens that write something other than blanks. (n,)"""
        return torch.tensor([index for index, surface in self.surfaces.items() if surface.strip()])

    @cached_property
    def _with_more(self) -> dict[int, Tensor]:
        return {}

    def pieces_and(self, index: int) -> Tensor:
        """All tokens that write something, and one more. (n + 1,)"""
        if index not in self._with_more:
            self._with_more[index] = torch.cat([self.pieces, torch.tensor([index])])
        return self._with_more[index]

    @cached_property
    def _spelled(self) -> dict[bytes, list[int]]:
        found: dict[bytes, list[int]] = {}
        for index, surface in self.surfaces.items():
            found.setdefault(surface.strip(), []).append(index)
        return found

    def spelled(self, texts: Sequence[bytes]) -> list[int]:
        """The tokens that write one of the texts, whatever blanks are around it."""
        return [index for text in texts for index in self._spelled.get(text, ())]

    def _plant(self, index: int, surface: bytes) -> None:
        branch = self._root
        for byte in surface:
            branch = branch.branches.setdefault(byte, _Branch())
        branch.tokens.append(index)

    def allowed(self, grammar: Grammar, room: int) -> list[int]:
        """All tokens that may stand here and leave a rest that `room` bytes can finish."""
        found: list[int] = []
        pending: list[tuple[_Branch, Grammar]] = [(self._root, grammar)]
        while pending:
            branch, here = pending.pop()
            if branch.tokens and here.shortest <= room:
                found += branch.tokens
            for byte, further in branch.branches.items():
                there = here.step(byte)
                if there is not None:
                    pending.append((further, there))
        return found


def keep_only(scores: Tensor, tokens: Sequence[int] | Tensor) -> Tensor:
    """Minus infinity everywhere but at these tokens.

    Args:
        scores: (1, vocabulary)
        tokens: ids.
    """
    keep = torch.as_tensor(tokens, device=scores.device)
    return torch.full_like(scores, -torch.inf).index_copy_(1, keep, scores.index_select(1, keep))


class Constraint:
    """A logits processor of one request: whatever the scores, the reply is a text of the grammar.

    A token writes at least one byte, so a rest that takes `n` bytes takes at most `n` tokens (every byte is a
    token of its own in vocabularies with byte fallback): a token that would leave more than the budget
    allows is never chosen.

    Args:
        grammar: what may be written. A blank may stand before it: sentencepiece starts words with one.
        vocabulary: of the checkpoint.
        start: length of the prompt in tokens.
        budget: most tokens of the reply.
    """

    def __init__(self, grammar: Grammar, vocabulary: Vocabulary, *, start: int, budget: int) -> None:
        self._whole = row(optional(Literal(" ")), grammar)
        self._here = self._whole
        self._vocabulary = vocabulary
        self._start = self._read = start
        self._end = start + budget

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Minus infinity at every token that may not come next.

        Args:
            ids: prompt and reply so far. (1, n)
            scores: (1, vocabulary)
        """
        if ids.shape[1] == self._start:  # a reply begins, perhaps for a second time
            self._here, self._read = self._whole, self._start
        for index in ids[0, self._read :].tolist():
            self._take(index)
        self._read = ids.shape[1]
        return keep_only(scores, self._next(scores[0], self._end - self._read - 1))

    def _take(self, index: int) -> None:
        rest = self._here.walk(self._vocabulary.surfaces[index])
        assert rest is not None, "only allowed tokens are chosen"
        self._here = rest

    def _next(self, scores: Tensor, room: int) -> list[int]:
        ending = self._vocabulary.stop_ids if self._here.ends else ()
        likely = scores.topk(min(_TRIED, scores.shape[0])).indices.tolist()
        kept = [index for index in likely if index in ending or self._fits(index, room)]
        return kept or [*ending, *self._vocabulary.allowed(self._here, room)]

    def _fits(self, index: int, room: int) -> bool:
        surface = self._vocabulary.surfaces.get(index)
        rest = None if surface is None else self._here.walk(surface)
        return rest is not None and rest.shortest <= room
