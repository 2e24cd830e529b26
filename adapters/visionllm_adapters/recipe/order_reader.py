"""Says aloud what super-links of drawing hold, so that the language model learns to put it there.

The distance between conditioning tokens alone tells 64 queries very little about words: for a long time only
the background is right. Here fixed groups of queries have to name the things that are asked for, one group a
thing. Only training uses it; nothing of it is shipped.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from visionllm_adapters.recipe.drawing_tokens import WORDS, layout_tensors, order_tensors
from visionllm_adapters.recipe.layouts import ANY_COLOUR, ANY_KIND, plan_layout
from visionllm_sdk.scenes.checker import Asked
from visionllm_sdk.scenes.drawing_language import EditWords, Order

THINGS: Final = 4
GROUP: Final = 12
"""Queries that name one thing; the rest names the background."""
_NOTHING: Final = ANY_KIND + 1
_BOX_WEIGHT: Final = 8.0


class OrderReader(nn.Module):
    """Reads super-links of drawing and editing.

    Args:
        width: channels of a super-link (C).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kind = nn.Linear(width, _NOTHING + 1)
        self.colour = nn.Linear(width, ANY_COLOUR + 1)
        self.box = nn.Linear(width, 4)
        self.background = nn.Linear(width, ANY_COLOUR + 1)
        self.words = nn.ModuleList([nn.Linear(width, size) for size in WORDS])

    def loss(
        self, states: Mapping[str, Tensor], orders: Mapping[str, Sequence[Order]]
    ) -> tuple[Tensor, dict[str, float]]:
        """How wrong what is read is.

        Args:
            states: super-links by table, (m, 64, C) each.
            orders: what they should hold, by table.

        Returns:
            (loss, shares of rightly read words for the log).
        """
        total, figures = torch.zeros(()), {}
        asked = [one for one in orders["gen"] if isinstance(one, Asked)]
        if asked:
            loss, figures["draw_read"] = self._pictures(states["gen"].float(), asked)
            total = total + loss
        words = [one for one in orders["edit"] if isinstance(one, EditWords)]
        if words:
            loss, figures["edit_read"] = self._edits(states["edit"].float(), words)
            total = total + loss
        return total, figures

    def _pictures(self, states: Tensor, asked: Sequence[Asked]) -> tuple[Tensor, float]:
        kinds, colours, boxes, valid, backgrounds = layout_tensors([plan_layout(one) for one in asked])
        kinds = functional.pad(kinds.where(valid, _NOTHING), (0, THINGS), value=_NOTHING)[:, :THINGS]
        colours = functional.pad(colours, (0, THINGS), value=ANY_COLOUR)[:, :THINGS]
        boxes = functional.pad(boxes, (0, 0, 0, THINGS))[:, :THINGS]
        there = kinds != _NOTHING
        things = states[:, : THINGS * GROUP].unflatten(1, (THINGS, GROUP)).mean(2)  # (B, 4, C)
        behind = self.background(states[:, THINGS * GROUP :].mean(1))
        kind, colour = self.kind(things), self.colour(things)
        loss = functional.cross_entropy(kind.flatten(0, 1), kinds.flatten())
        loss = loss + functional.cross_entropy(colour[there], colours[there])
        loss = loss + functional.cross_entropy(behind, backgrounds)
        loss = loss + _BOX_WEIGHT * (self.box(things)[there] - boxes[there]).abs().mean()
        right = (kind.argmax(-1) == kinds) & ((colour.argmax(-1) == colours) | ~there)
        return loss, float((right.all(1) & (behind.argmax(-1) == backgrounds)).float().mean())

    def _edits(self, states: Tensor, orders: Sequence[EditWords]) -> tuple[Tensor, float]:
        words, _, _ = order_tensors(orders)
        mean = states.mean(1)
        logits = [head(mean) for head in self.words]
        pairs = list(zip(logits, words.unbind(-1), strict=True))
        loss = torch.stack([functional.cross_entropy(said, wanted) for said, wanted in pairs]).sum()
        right = torch.stack([said.argmax(-1) == wanted for said, wanted in pairs]).all(0)
        return loss, float(right.float().mean())
