"""The model while it learns: a batch of examples in, one loss out, gradients through the super-links."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from visionllm_adapters.training.apart import likeness
from visionllm_adapters.training.examples import REPLAY, Call, Example
from visionllm_adapters.training.memory import LINKS, WORDS, Memory, Recollection, strayed, supervised
from visionllm_sdk.errors import DataError
from visionllm_sdk.model.assembly import AnyTool, Model
from visionllm_sdk.model.core import CoreOutput
from visionllm_sdk.model.prompt import Batch, Prompt, collate
from visionllm_sdk.model.superlink import LinkPosition
from visionllm_sdk.tool import SuperLink, ToolRequest
from visionllm_tools.detection.tool import DetectionTool
from visionllm_tools.diffusion.tool import DiffusionTool
from visionllm_tools.requests import distinct

_Queue = tuple[list[ToolRequest[Any]], list[Any]]
_APART = 10.0
"""Weight of classes that are too much alike."""
_Links = Sequence[tuple[LinkPosition, Tensor]]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """One call that a tool's loss judges."""

    tool: AnyTool
    request: ToolRequest[Any]
    truth: Any
    with_masks: bool


class Trainee(nn.Module):
    """Everything that learns, behind one `forward`: what processes share and wrap.

    Args:
        model: with `requires_grad` set on what learns.
        tools: names of the tools whose losses count.
        memory: the model as it came, whose words and super-links replayed scenes are held to.
    """

    def __init__(self, model: Model, tools: Sequence[str], memory: Memory | None = None) -> None:
        super().__init__()
        self.core = model.core
        self.memory = memory
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

        Classes that a detector cannot tell apart are parted, see `training.apart`. In the language loss every
        example counts the same, however long its answer: beside replayed captions an answer of one word would
        hardly be heard. Replayed scenes are held to what the model said of them before, if there is a memory;
        else they are taught like the others.

        Args:
            examples: any mix of skills.

        Returns:
            The sum, and its parts for the log.

        Raises:
            DataError: an answer whose routing tokens are not those of the example's calls.
        """
        model = self._model[0]
        prompts = self._prompts(examples)
        old = [] if self.memory is None else [n for n, one in enumerate(examples) if one.skill == REPLAY]
        for row in old:
            prompts[row] = self._looked_at(prompts[row])
        batch = collate(prompts, pad_id=model.tokenizer.pad_id)
        output = self.core(batch, loss=False)
        taught = [row for row in range(len(examples)) if row not in old]
        terms = {"language": self._language(batch, output, taught)}
        total = terms["language"]
        asked = [self._asked(example, output.of_row(row)) for row, example in enumerate(examples)]
        if self.memory is not None and old:
            before = self.memory.recall(collate([prompts[row] for row in old], pad_id=model.tokenizer.pad_id))
            terms["words"], terms["links"] = self._kept(before, old, batch, output)
            total = total + len(old) / len(examples) * (WORDS * terms["words"] + LINKS * terms["links"])
            then = [self._asked(examples[row], before.output.of_row(n)) for n, row in enumerate(old)]
            _remind([asked[row] for row in old], then, self.memory)
        for tool, requests in _detections(asked[row] for row in taught):
            terms["alike"] = likeness(tool, requests)
            total = total + _APART * terms["alike"]
        for (name, _), (requests, truths) in _queues(asked).items():
            found = self._tools[requests[0].token].loss(requests, truths)
            share = len(requests) / len(examples)
            total = total + share * found.total
            for term, value in found.terms.items():
                key = f"{name}_{term}"
                terms[key] = terms.get(key, torch.zeros_like(value)) + share * value.detach()
        return total, terms

    @torch.no_grad()
    def study(self, examples: Sequence[Example]) -> None:
        """Let the tools that want to, see a sample of what will be taught."""
        batch = collate(self._prompts(examples), pad_id=self._model[0].tokenizer.pad_id)
        output = self.core(batch, loss=False)
        asked = [self._asked(example, output.of_row(row)) for row, example in enumerate(examples)]
        for requests, truths in _queues(asked).values():
            tool = self._tools[requests[0].token]
            if isinstance(tool, DiffusionTool):
                tool.study(requests, truths)

    def _prompts(self, examples: Sequence[Example]) -> list[Prompt]:
        tile = self._model[0].tile
        return [
            self._builder.build(one.turns, [tile(image) for image in one.shown], one.regions)
            for one in examples
        ]

    def _looked_at(self, prompt: Prompt) -> Prompt:
        """The same with vision features, which the model as it came and the one that learns share."""
        if not prompt.images:
            return prompt
        seen = self.core.see_each(prompt.images, levels=bool(prompt.regions))
        images = tuple(
            replace(image, features=features) for image, features in zip(prompt.images, seen, strict=True)
        )
        return replace(prompt, images=images)

    def _language(self, batch: Batch, output: CoreOutput, rows: Sequence[int]) -> Tensor:
        """Cross-entropy of the next token: mean over each row's supervised tokens, then over all rows."""
        wanted = supervised(batch, output)  # (B, L - 1)
        chosen = torch.zeros_like(wanted)
        chosen[list(rows)] = wanted[list(rows)]
        if not bool(chosen.any()):
            return output.hidden.sum() * 0.0
        labels = batch.labels.to(output.hidden.device)[:, 1:]
        logits = self.core.llm.lm_head(output.hidden[:, :-1][chosen]).float()  # (N, vocabulary)
        each = F.cross_entropy(logits, labels[chosen], reduction="none")
        count = wanted.sum(1).clamp_min(1)
        share = (1.0 / count)[:, None].expand_as(wanted)[chosen]
        return (each * share).sum() / len(labels)

    def _kept(
        self, before: Recollection, rows: Sequence[int], batch: Batch, output: CoreOutput
    ) -> tuple[Tensor, Tensor]:
        """How far words and super-links of some rows have strayed from what they were."""
        assert self.memory is not None
        wanted = supervised(batch, output)[list(rows)]
        logits = self.core.llm.lm_head(output.hidden[list(rows)][:, :-1][wanted]).float()
        links = self.memory.read(pair for row in rows for pair in output.of_row(row))
        return strayed(logits, wanted.nonzero()[:, 0], links, before)

    def _asked(self, example: Example, links: _Links) -> list[_Asked]:
        """Calls of an example whose tools learn, with what they should find."""
        wanted = [call.token for call in example.calls for _ in call.labels]
        if [link.spec.token for link, _ in links] != wanted:
            raise DataError(
                "an answer's routing tokens are not those of its calls",
                value=[link.spec.token for link, _ in links],
                limit=wanted,
            )
        states = [state for _, state in links]
        found, before = list[_Asked](), list[SuperLink]()
        for call in example.calls:
            own = _super_links(call, states[len(before) : len(before) + len(call.labels)])
            tool = self._tools.get(call.token)
            if tool is not None and call.truth is not None:
                request = _request(call, own, before, example, tool)
                found.append(_Asked(tool=tool, request=request, truth=call.truth, with_masks=call.with_masks))
            before += own
        return found


def _detections(
    asked: Iterable[Sequence[_Asked]],
) -> Iterator[tuple[DetectionTool, list[ToolRequest[Any]]]]:
    """The detector with all that is asked of it; nothing where it does not learn."""
    own = [
        (one.tool, one.request) for one in chain.from_iterable(asked) if isinstance(one.tool, DetectionTool)
    ]
    if own:
        yield own[0][0], [request for _, request in own]


def _queues(asked: Iterable[Sequence[_Asked]]) -> dict[tuple[str, bool], _Queue]:
    """Requests and truths by tool, and by whether there are masks to learn."""
    queues: dict[tuple[str, bool], _Queue] = defaultdict(lambda: ([], []))
    for one in chain.from_iterable(asked):
        requests, truths = queues[one.tool.name, one.with_masks]
        requests.append(one.request)
        truths.append(one.truth)
    return queues


def _remind(asked: Sequence[list[_Asked]], then: Sequence[list[_Asked]], memory: Memory) -> None:
    """Say in the truth of every call what its tool made of it before it learnt, where the tool can tell.

    Args:
        asked: calls, example by example; replaced in place.
        then: the same with super-links as they were.
        memory: of the model as it was.
    """
    places: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for row, calls in enumerate(asked):
        for place, call in enumerate(calls):
            places[call.tool.name].append((row, place))
    for name, where in places.items():
        found = memory.found(name, [then[row][place].request for row, place in where])
        for (row, place), known in zip(where, found or (), strict=found is not None):
            call = asked[row][place]
            asked[row][place] = replace(call, truth=replace(call.truth, known=known))


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
