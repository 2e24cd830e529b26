"""The model while it learns: a batch of examples in, one loss out, gradients through the super-links."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionllm_adapters.training.examples import Call, Example
from visionllm_sdk.errors import DataError
from visionllm_sdk.model.assembly import AnyTool, Model
from visionllm_sdk.model.core import CoreOutput
from visionllm_sdk.model.prompt import IGNORED, Batch, collate
from visionllm_sdk.model.superlink import query_mask
from visionllm_sdk.tool import SuperLink, ToolRequest
from visionllm_tools.requests import distinct

_Queue = tuple[list[ToolRequest[Any]], list[Any]]


class Trainee(nn.Module):
    """Everything that learns, behind one `forward`: what processes share and wrap.

    Args:
        model: with `requires_grad` set on what learns.
        tools: names of the tools whose losses count.
    """

    def __init__(self, model: Model, tools: Sequence[str]) -> None:
        super().__init__()
        self.core = model.core
        self.decoders = nn.ModuleDict({name: model.tools[name].decoder for name in tools})
        self._model = [model]  # in a list, so that it is no submodule
        self._builder = model.prompt_builder()
        self._tools: dict[str, AnyTool] = {
            token.text: model.tools[name] for name in tools for token in model.tools[name].tokens
        }

    def train(self, mode: bool = True) -> Self:
        """Training mode; normalisation keeps the statistics that it has, which few pictures would spoil."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        return self

    def forward(self, examples: Sequence[Example]) -> tuple[Tensor, dict[str, Tensor]]:
        """Language loss plus the losses of all tools, unweighted (paper, section 3.4).

        In the language loss every example counts the same, however long its answer: beside replayed captions
        an answer of one word would hardly be heard.

        Args:
            examples: any mix of skills.

        Returns:
            The sum, and its parts for the log.

        Raises:
            DataError: an answer whose routing tokens are not those of the example's calls.
        """
        model = self._model[0]
        images = [() if one.image is None else (model.tile(one.image),) for one in examples]
        prompts = [
            self._builder.build(one.turns, tiled, one.regions)
            for one, tiled in zip(examples, images, strict=True)
        ]
        batch = collate(prompts, pad_id=model.tokenizer.pad_id)
        output = self.core(batch, loss=False)
        total = self._language(batch, output)
        terms = {"language": total}
        for (name, _), (requests, truths) in self._queues(examples, output).items():
            found = self._tools[requests[0].token].loss(requests, truths)
            share = len(requests) / len(examples)
            total = total + share * found.total
            for term, value in found.terms.items():
                key = f"{name}_{term}"
                terms[key] = terms.get(key, torch.zeros_like(value)) + share * value.detach()
        return total, terms

    def _language(self, batch: Batch, output: CoreOutput) -> Tensor:
        """Cross-entropy of the next token: mean over each row's supervised tokens, then over the rows."""
        labels = batch.labels.masked_fill(query_mask(batch.ids, output.links), IGNORED)
        labels = labels.to(output.hidden.device)[:, 1:]
        wanted = labels != IGNORED  # (B, L - 1)
        if not bool(wanted.any()):
            return output.hidden.sum() * 0.0
        logits = self.core.llm.lm_head(output.hidden[:, :-1][wanted]).float()  # (N, vocabulary)
        each = F.cross_entropy(logits, labels[wanted], reduction="none")
        count = wanted.sum(1).clamp_min(1)
        share = (1.0 / count)[:, None].expand_as(wanted)[wanted]
        return (each * share).sum() / len(labels)

    def _queues(self, examples: Sequence[Example], output: Any) -> dict[tuple[str, bool], _Queue]:
        """Requests and truths by tool, and by whether there are masks to learn."""
        queues: dict[tuple[str, bool], _Queue] = defaultdict(lambda: ([], []))
        for row, example in enumerate(examples):
            links = output.of_row(row)
            wanted = [call.token for call in example.calls for _ in call.labels]
            if [link.spec.token for link, _ in links] != wanted:
                raise DataError(
                    "an answer's routing tokens are not those of its calls",
                    value=[link.spec.token for link, _ in links],
                    limit=wanted,
                )
            states = [state for _, state in links]
            before: list[SuperLink] = []
            for call in example.calls:
                own = _super_links(call, states[len(before) : len(before) + len(call.labels)])
                tool = self._tools.get(call.token)
                if tool is not None:
                    requests, truths = queues[tool.name, call.with_masks]
                    requests.append(_request(call, own, before, example, tool))
                    truths.append(call.truth)
                before += own
        return queues


def _super_links(call: Call, states: Sequence[Tensor]) -> list[SuperLink]:
    return [
        SuperLink(token=call.token, label=label, states=state)
        for label, state in zip(call.labels, states, strict=True)
    ]


def _request(
    call: Call, own: Sequence[SuperLink], before: Sequence[SuperLink], example: Example, tool: AnyTool
) -> ToolRequest[Any]:
    return ToolRequest(
        token=call.token,
        links=tuple(own),
        options=tool.options_type(),
        image=example.image,
        context=tuple(distinct([link for link in before if link.token in tool.context_tokens])),
    )
