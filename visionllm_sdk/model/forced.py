"""Forced routing: with known labels, question and answer are laid out and one pass yields the super-links.

Label lists longer than the checkpoint's limit are split into groups; what all groups have in common is run
once (:mod:`visionllm_sdk.model.alike`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.model.alike import LinkState, link_states
from visionllm_sdk.model.conversation import ForcedCall, Turn, forced_turn
from visionllm_sdk.model.core import VisionLLMCore
from visionllm_sdk.model.prompt import Prompt, PromptBuilder, RegionPrompt, TiledImage
from visionllm_sdk.model.reply import Link, RoutedCall
from visionllm_sdk.model.sampling import certainty
from visionllm_sdk.model.session import Session
from visionllm_sdk.model.tokenizer import IMAGE, Control, TextTokenizer
from visionllm_sdk.tool import ForcedLayout, SuperLink

_IMAGE = Control(IMAGE)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForcedRequest:
    """Routing tokens with their labels for one item.

    Attributes:
        calls: laid out one after the other in one turn.
        images: of this turn; ``<image>`` opens the question once for each that no slot of a call places.
        regions: region prompts of the question, in the order of the calls' slots.
        history: earlier turns; their ``<image>`` tokens refer to the first of ``images``.
        number: among what the caller passed, for messages; None: the place among the requests.
        session: reuses and keeps what the model read of these images.

    Raises:
        InputError: no call, or one without labels.
    """

    calls: tuple[ForcedCall, ...]
    images: tuple[TiledImage, ...] = ()
    regions: tuple[RegionPrompt, ...] = ()
    history: tuple[Turn, ...] = ()
    number: int | None = None
    session: Session | None = None

    def __post_init__(self) -> None:
        if not self.calls or any(not call.labels for call in self.calls):
            raise InputError(
                "forced routing needs at least one label for every routing token",
                value=[len(call.labels) for call in self.calls],
                remedy="Pass the labels.",
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """One laid-out prompt: which request it belongs to, and which labels of each call it holds."""

    request: int
    spans: tuple[range, ...]
    prompt: Prompt


class ForcedRouter:
    """Lays out and runs forced routing for one checkpoint.

    Args:
        core: the model.
        tokenizer: of the checkpoint.
        builder: its prompt builder.
        label_tags: wrap labels in their tags.
        layouts: layouts of the checkpoint, by routing token.
        max_labels: most labels of one call in one pass.
    """

    def __init__(
        self,
        core: VisionLLMCore,
        tokenizer: TextTokenizer,
        builder: PromptBuilder,
        *,
        label_tags: bool,
        layouts: dict[str, ForcedLayout],
        max_labels: int,
    ) -> None:
        self._core = core
        self._tokenizer = tokenizer
        self._builder = builder
        self._label_tags = label_tags
        self._layouts = layouts
        self._max_labels = max_labels

    @torch.no_grad()
    def run(self, requests: Sequence[ForcedRequest]) -> list[list[RoutedCall]]:
        """One routed call per forced call, in order, for every request; labels keep their order.

        Raises:
            InputError: labels or layouts that do not fit, or region prompts with a split label list.
            LimitError: labels that the language model cannot read in one go.
        """
        groups = [group for index, request in enumerate(requests) for group in self._groups(index, request)]
        states = link_states(
            self._core,
            [group.prompt for group in groups],
            [requests[group.request].session for group in groups],
            pad_id=self._tokenizer.pad_id,
        )
        logits = self._logits([link for links in states for link in links])
        found: dict[tuple[int, int, int], Link] = {}
        for group, links in zip(groups, states, strict=True):
            own, logits = logits[: len(links)], logits[len(links) :]
            found |= self._links_of(group, requests[group.request], links, own)
        return [self._calls(index, request, found) for index, request in enumerate(requests)]

    def _logits(self, links: Sequence[LinkState]) -> Tensor:
        """What the model would write where it is made to write routing tokens. (N, vocabulary)"""
        if not links:
            return torch.zeros(0)
        logits: Tensor = self._core.llm.lm_head(torch.stack([link.before for link in links]))
        return logits.float()

    def _groups(self, index: int, request: ForcedRequest) -> Iterable[_Group]:
        spans = [_spans(len(call.labels), self._max_labels) for call in request.calls]
        if request.regions and any(len(one) > 1 for one in spans):
            raise InputError(
                "region prompts cannot be split into groups",
                value=max(len(call.labels) for call in request.calls),
                limit=f"{self._max_labels} labels",
                remedy="Ask about fewer regions at once.",
            )
        for chosen in itertools.product(*spans):
            calls = [
                replace(call, labels=call.labels[span.start : span.stop])
                for call, span in zip(request.calls, chosen, strict=True)
            ]
            placed = [*(part.question for part in request.history), *(call.slot or () for call in calls)]
            images_placed = sum(parts.count(_IMAGE) for parts in placed)
            turn = forced_turn(
                calls,
                images=len(request.images) - images_placed,
                label_tags=self._label_tags,
                layouts=self._layouts,
            )
            turns = [*request.history, turn]
            prompt = self._builder.build(turns, request.images, request.regions)
            self._check_length(index if request.number is None else request.number, prompt)
            yield _Group(index, chosen, prompt)

    def _check_length(self, index: int, prompt: Prompt) -> None:
        limit = int(self._core.llm.config.max_position_embeddings)
        if len(prompt.ids) > limit:
            raise LimitError(
                f"request {index}: the labels are longer than the language model can read",
                value=f"{len(prompt.ids)} tokens",
                limit=limit,
                remedy="Use shorter labels, fewer at once, or fewer images.",
            )

    def _links_of(
        self, group: _Group, request: ForcedRequest, links: Sequence[LinkState], logits: Tensor
    ) -> dict[tuple[int, int, int], Link]:
        """Links of one group by (request, call, label); the first group that holds a label decides."""
        places = [(call, label) for call, span in enumerate(group.spans) for label in span]
        earlier = len(links) - len(places)  # links of the history come first
        result = {}
        for (call, label), link, row in zip(places, links[earlier:], logits[earlier:], strict=True):
            if any(span.start and other != call for other, span in enumerate(group.spans)):
                continue
            token, name = request.calls[call].token.text, request.calls[call].labels[label]
            probability, alternatives = certainty(row, link.spec.token_id, self._tokenizer)
            result[group.request, call, label] = Link(
                super_link=SuperLink(token=token, label=name, states=link.states.clone()),
                probability=probability,
                alternatives=alternatives,
                position=0,
            )
        return result

    def _calls(
        self, index: int, request: ForcedRequest, found: dict[tuple[int, int, int], Link]
    ) -> list[RoutedCall]:
        calls: list[RoutedCall] = []
        for position, call in enumerate(request.calls):
            links = tuple(found[index, position, label] for label in range(len(call.labels)))
            before = [link for earlier in calls for link in earlier.super_links]
            context = tuple(link for link in before if link.token != call.token.text)
            calls.append(RoutedCall(token=call.token.text, links=links, context=context))
        return calls


def _spans(labels: int, limit: int) -> list[range]:
    return [range(start, min(start + limit, labels)) for start in range(0, labels, limit)]
