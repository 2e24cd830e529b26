"""Replies that must route, and replies that must say something, whatever the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from visionllm_sdk.agent.constrain import Vocabulary, keep_only
from visionllm_sdk.skills.engine import Engine

__all__ = ["MustRoute", "Prescribed", "SaySomething", "SoonRoute"]

_LABEL_TOKENS = 96
_LABELS = 16
_KINDS = 2  # labels before the first one that must be used
_POSED = 40  # labels of a pose: kinds of objects and the keypoints of a whole body
_PATIENCE = 32  # tokens of a reply before its routing token
_GAP = 4  # pieces between two labels
_LINKING = (b"", b",", b"and", b".")


@dataclass
class _Place:
    """Where a reply stands.

    Attributes:
        tag: the label tag that is open, or that was just closed.
        inside: between the two tags.
        size: tokens of the label so far.
        spoken: whether the label has a visible character.
        labels: labels finished.
        called: whether a token that must be used has been.
        gap: pieces since the last routing token.
        joined: whether they hold a comma or an "and".
    """

    tag: str = ""
    inside: bool = False
    size: int = 0
    spoken: bool = False
    labels: int = 0
    called: bool = False
    gap: int = 0
    joined: bool = False


class MustRoute:
    """A logits processor for checkpoints with label tags: the reply is a list of labels, each routed.

    Args:
        engine: the model.
        vocabulary: of the checkpoint.
        tokens: routing tokens of which one must be used.
        before: routing tokens that must open the answer, such as those of the objects whose keypoints follow.
        start: length of the prompt in tokens.
    """

    def __init__(
        self,
        engine: Engine,
        vocabulary: Vocabulary,
        tokens: Sequence[str],
        *,
        start: int,
        before: Sequence[str] = (),
    ) -> None:
        tokenizer = engine.model.tokenizer
        self._vocabulary = vocabulary
        self._start = start
        self._most = _POSED if before else _LABELS
        self._tags: dict[str, list[int]] = {}
        for token in (*before, *tokens):
            tag = engine.token(token).label_tag
            if tag is not None:
                self._tags.setdefault(tag, []).append(tokenizer.control_id(token))
        self._first = {tokenizer.control_id(token) for token in before}
        self._wanted = {tokenizer.control_id(token) for token in tokens}
        self._opens = {tokenizer.control_id(f"<{tag}>"): tag for tag in self._tags}
        self._closes = {tag: tokenizer.control_id(f"</{tag}>") for tag in self._tags}
        self._linking = vocabulary.spelled(_LINKING)

    @staticmethod
    def suits(engine: Engine, tokens: Sequence[str]) -> bool:
        """Whether the checkpoint wraps the labels of these tokens in tags."""
        tagged = engine.model.config.sdk.label_tags
        return tagged and bool(tokens) and all(engine.token(token).label_tag for token in tokens)

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Minus infinity at every token that may not come next.

        Args:
            ids: prompt and reply so far. (1, n)
            scores: (1, vocabulary)
        """
        place = self._place(ids[0, self._start :].tolist())
        return keep_only(scores, self._words(place) if place.inside else self._next(place))

    def _place(self, reply: Sequence[int]) -> _Place:
        place = _Place()
        routing = {index for group in self._tags.values() for index in group}
        for index in reply:
            if index in self._opens:
                place = _Place(tag=self._opens[index], inside=True, labels=place.labels, called=place.called)
            elif place.inside and index == self._closes[place.tag]:
                place.inside = False
            elif index in routing:
                called = place.called or index in self._wanted
                place = _Place(labels=place.labels + 1, called=called)
            elif place.inside:
                place.size += 1
                place.spoken = place.spoken or bool(self._vocabulary.surfaces[index].strip())
            else:
                place.gap += 1
                place.joined = place.joined or self._vocabulary.surfaces[index].strip() in (b",", b"and")
        return place

    def _next(self, place: _Place) -> list[int]:
        if place.tag:
            return self._routes(place)
        if not place.labels or place.joined:
            return list(self._opens)
        if not place.called:
            return [*self._opens, *([] if place.gap >= _GAP else self._linking)]
        stop = list(self._vocabulary.stop_ids)
        return stop if place.gap >= _GAP or place.labels >= self._most else [*stop, *self._linking]

    def _routes(self, place: _Place) -> list[int]:
        """Tokens behind a finished label: those that open the answer first, and in the end a wanted one."""
        own = self._tags[place.tag]
        if not place.labels:
            return [token for token in own if token in self._first] or own
        if not place.called and place.labels >= _KINDS:
            return [token for token in own if token in self._wanted] or own
        return own

    def _words(self, place: _Place) -> Sequence[int] | Tensor:
        """Inside of a label: any piece, and its end once it says something."""
        if not place.spoken:
            return self._vocabulary.pieces if place.size < _LABEL_TOKENS else self._vocabulary.visible
        close = self._closes[place.tag]
        return [close] if place.size >= _LABEL_TOKENS else self._vocabulary.pieces_and(close)


class SoonRoute:
    """A logits processor for routing tokens without labels: one is written before long.

    Args:
        token: id of the routing token.
        start: length of the prompt in tokens.
    """

    def __init__(self, token: int, *, start: int) -> None:
        self._token = token
        self._start = start

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Minus infinity at everything else once the reply has gone on for long without the token.

        Args:
            ids: prompt and reply so far. (1, n)
            scores: (1, vocabulary)
        """
        reply = ids[0, self._start :].tolist()
        if len(reply) < _PATIENCE or self._token in reply:
            return scores
        only = torch.full_like(scores, -torch.inf)
        only[0, self._token] = 0.0
        return only


class Prescribed:
    """A logits processor that writes a known reply, token by token.

    Args:
        reply: its ids; generation must end with them.
        start: length of the prompt in tokens.
    """

    def __init__(self, reply: Sequence[int], *, start: int) -> None:
        self._reply = reply
        self._start = start

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Minus infinity at all but the next token.

        Args:
            ids: prompt and reply so far. (1, n)
            scores: (1, vocabulary)
        """
        only = torch.full_like(scores, -torch.inf)
        only[0, self._reply[ids.shape[1] - self._start]] = 0.0
        return only


class SaySomething:
    """A logits processor that does not let a reply end before it has a visible character or a control token.

    Args:
        vocabulary: of the checkpoint.
        start: length of the prompt in tokens.
    """

    def __init__(self, vocabulary: Vocabulary, *, start: int) -> None:
        self._vocabulary = vocabulary
        self._start = start

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        """Minus infinity at the ends of a reply that has said nothing yet.

        Args:
            ids: prompt and reply so far. (1, n)
            scores: (1, vocabulary)
        """
        reply = ids[0, self._start : self._start + 8].tolist()
        if any(self._vocabulary.surfaces.get(index, b"-").strip() for index in reply):
            return scores
        scores = scores.clone()
        scores[0, list(self._vocabulary.stop_ids)] = -torch.inf
        return scores
