"""The model as it came, beside the one that learns: what it said of replayed scenes is what they teach.

Learning without forgetting (Li and Hoiem, 2016): where nothing new is taught, the old answers are the best
targets, because they say all that the model knew and not only which word was right.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import functional as F

from visionllm_adapters.training.selection import Learning
from visionllm_sdk.model.assembly import AnyTool, Model
from visionllm_sdk.model.core import CoreOutput
from visionllm_sdk.model.prompt import IGNORED, Batch
from visionllm_sdk.model.superlink import LinkPosition, query_mask
from visionllm_sdk.tool import RoutedTool, ToolRequest
from visionllm_tools.detection.known import Known
from visionllm_tools.detection.tool import DetectionTool

WORDS: Final = 8.0
LINKS: Final = 8.0
"""Weights of what is said and of what super-links mean, beside a language loss of about one half."""


@dataclass(frozen=True, slots=True, eq=False)
class Recollection:
    """What the model said before it learnt.

    Attributes:
        words: log-probabilities of the vocabulary before each supervised token, row by row. (N, vocabulary)
        links: what the tools read of the super-links, in the order of the batch; see `Memory.read`.
        output: of the language model, with the super-links themselves.
    """

    words: Tensor
    links: Sequence[Tensor]
    output: CoreOutput


class Memory:
    """Answers as the model did before: without low-rank updates, other tensors at their first values.

    Args:
        model: with the adapter that learns.
        learning: what learns; taken before anything was learnt. Of the core only what learns is copied, of
            the tools every detector that learns.
    """

    def __init__(self, model: Model, learning: Learning) -> None:
        self.core = model.core
        self._readers: dict[str, list[AnyTool]] = defaultdict(list)
        for kind in model.registry:
            if kind.read is not RoutedTool.read:
                for token in (*(token.text for token in kind.tokens), *kind.context_tokens):
                    self._readers[token].append(model.tools[kind.name])
        self._tools = model.tools
        self._before = {
            name: type(tool)(deepcopy(tool.decoder).requires_grad_(False).eval())
            for name, tool in model.tools.items()
            if isinstance(tool, DetectionTool) and any(p.requires_grad for p in tool.decoder.parameters())
        }
        self._peft: Any = learning.peft
        own = dict(model.core.named_parameters())
        self._first = {
            key: own[key].detach().clone() for key, value in learning.whole.items() if own.get(key) is value
        }

    @torch.no_grad()
    def recall(self, batch: Batch) -> Recollection:
        """What the model would have said to these prompts and their answers."""
        with self._peft.disable_adapter():
            output: CoreOutput = functional_call(self.core, self._first, (batch,), {"loss": False})
            wanted = supervised(batch, output)
            words = self.core.llm.lm_head(output.hidden[:, :-1][wanted]).float().log_softmax(-1)
        return Recollection(words, self.read(zip(output.links, output.states, strict=True)), output)

    def found(self, tool: str, requests: Sequence[ToolRequest[Any]]) -> list[Known] | None:
        """What a tool made of requests before it learnt; None where it does not learn, or cannot tell.

        Args:
            tool: its name.
            requests: with super-links as they were, of `recall`.
        """
        before, now = self._before.get(tool), self._tools[tool]
        if before is None:
            return None
        before.decoder.config = now.decoder.config  # type: ignore[assignment]  # of this step's input size
        return before.recall(requests)

    def read(self, links: Iterable[tuple[LinkPosition, Tensor]]) -> list[Tensor]:
        """What every tool that reads a super-link makes of it, or its states where no tool says so.

        Args:
            links: with their states, each (E, C).
        """
        return [reading for link, states in links for reading in self._readings(link.spec.token, states)]

    def _readings(self, token: str, states: Tensor) -> list[Tensor]:
        readers = self._readers.get(token)
        return [states] if not readers else [tool.read(token, states) for tool in readers]


def supervised(batch: Batch, output: CoreOutput) -> Tensor:
    """Which positions are followed by a token that the language loss counts. (B, L - 1) bool"""
    labels = batch.labels.masked_fill(query_mask(batch.ids, output.links), IGNORED)
    return (labels[:, 1:] != IGNORED).to(output.hidden.device)


def strayed(
    logits: Tensor, rows: Tensor, links: Sequence[Tensor], before: Recollection
) -> tuple[Tensor, Tensor]:
    """How far the answers have gone from what they were.

    Args:
        logits: of the same supervised tokens. (N, vocabulary)
        rows: which answer each of them belongs to; an answer counts by the root of its length. (N,) long
        links: what is read of the same super-links.
        before: what they were.

    Returns:
        Divergence (KL) of the words in nats an answer, over the root of its length: a long answer is wrong if
        any of its words is, but must not drown those of one word; mean square of what changed in a link,
        relative to its own: one of few queries counts as much as one of many.
    """
    each = F.kl_div(logits.log_softmax(-1), before.words, reduction="none", log_target=True).sum(-1)  # (N,)
    counts = torch.bincount(rows).clamp_min(1)
    words = (each / counts[rows].sqrt()).sum() / len(rows.unique())
    if not links:
        return words, words * 0.0
    changes = [
        (now - then).float().square().sum() / then.float().square().sum()
        for now, then in zip(links, before.links, strict=True)
    ]
    return words, torch.stack(changes).mean()
