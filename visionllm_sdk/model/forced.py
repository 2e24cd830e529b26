"""Forced routing: with known labels, question and answer are laid out and one pass yields the super-links.

Label lists longer than the checkpoint's limit are split into groups; all groups of all requests run together,
in batches of bounded size.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.model.conversation import ForcedCall, Turn, forced_turn
from visionllm_sdk.model.core import CoreOutput, VisionLLMCore
from visionllm_sdk.model.prompt import Prompt, PromptBuilder, RegionPrompt, TiledImage, collate
from visionllm_sdk.model.reply import Link, RoutedCall
from visionllm_sdk.model.sampling import certainty
from visionllm_sdk.model.superlink import find_links
from visionllm_sdk.model.tokenizer import IMAGE, Control, TextTokenizer
from visionllm_sdk.tool import ForcedLayout, SuperLink

_MAX_POSITIONS_A_PASS = 16384
_IMAGE = Control(IMAGE)
_Alternatives = tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ForcedRequest:
    """Routing tokens with their labels for one item.

    Attributes:
        calls: laid out one after the other in one turn.
        images: of this turn; ``<image>`` opens the question once for each that no slot of a call places.
        regions: region prompts of the question, in the order of the calls' slots.
        history: earlier turns; their ``<image>`` tokens refer to the first of ``images``.
        number: among what the caller passed, for messages; None: the place among the requests.

    Raises:
        InputError: no call, or one without labels.
    """

    calls: tuple[ForcedCall, ...]
    images: tuple[TiledImage, ...] = ()
    regions: tuple[RegionPrompt, ...] = ()
    history: tuple[Turn, ...] = ()
    number: int | None = None

    def __post_init__(self) -> None:
        if not self.calls or any(not call.labels for call in self.calls):
            raise InputError(
                "forced routing needs at least one label for every routing token",
                value=[len(call.labels) for call in self.calls],
                remedy="Pass the labels.",
            )


@dataclass(frozen=True, slots=True, eq=False)
class _Group:
    """One laid-out row: which request it belongs to, and which labels of each call it holds."""

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
        seen = self._see(requests)
        groups = [group for index, request in enumerate(seen) for group in self._groups(index, request)]
        found: dict[tuple[int, int, int], Link] = {}
        for batch in _batches(groups):
            output, certain = self._forward([group.prompt for group in batch])
            for row, group in enumerate(batch):
                found |= self._links_of(group, seen[group.request], output, certain, row)
        return [self._calls(index, request, found) for index, request in enumerate(seen)]

    def _see(self, requests: Sequence[ForcedRequest]) -> list[ForcedRequest]:
        """Compute the vision features of every image once, however many groups use it."""
        images = list({id(image): image for request in requests for image in request.images}.values())
        if not images:
            return list(requests)
        unknown = any(region.embedding is None for request in requests for region in request.regions)
        features = self._core.see_each(images, levels=unknown)
        known = {
            id(image): TiledImage(image.pixels, seen, image.key)
            for image, seen in zip(images, features, strict=True)
        }
        return [
            replace(request, images=tuple(known[id(image)] for image in request.images))
            for request in requests
        ]

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

    def _forward(self, prompts: Sequence[Prompt]) -> tuple[CoreOutput, list[tuple[float, _Alternatives]]]:
        batch = collate(prompts, pad_id=self._tokenizer.pad_id)
        links = find_links(batch.ids, self._core.plan)
        output = self._core(batch, loss=False)
        if not links:
            return output, []
        rows = torch.tensor([link.row for link in links])
        before = torch.tensor([link.column - 1 for link in links])
        logits = self._core.llm.lm_head(output.hidden[rows, before]).float()  # (links, vocabulary)
        certain = [
            certainty(one, link.spec.token_id, self._tokenizer)
            for one, link in zip(logits, links, strict=True)
        ]
        return output, certain

    def _links_of(
        self,
        group: _Group,
        request: ForcedRequest,
        output: CoreOutput,
        certain: Sequence[tuple[float, _Alternatives]],
        row: int,
    ) -> dict[tuple[int, int, int], Link]:
        """Links of one row by (request, call, label); the first group that holds a label decides."""
        places = [(call, label) for call, span in enumerate(group.spans) for label in span]
        own = [index for index, link in enumerate(output.links) if link.row == row]
        own = own[len(own) - len(places) :]  # links of the history come first
        result = {}
        for (call, label), index in zip(places, own, strict=True):
            if any(span.start and other != call for other, span in enumerate(group.spans)):
                continue
            token = request.calls[call].token.text
            link = SuperLink(
                token=token, label=request.calls[call].labels[label], states=output.states[index].clone()
            )
            probability, alternatives = certain[index]
            result[group.request, call, label] = Link(
                super_link=link, probability=probability, alternatives=alternatives, position=0
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


def _batches(groups: Sequence[_Group]) -> Iterable[list[_Group]]:
    """Groups of similar length together, at most ``_MAX_POSITIONS_A_PASS`` positions at once."""
    batch: list[_Group] = []
    for group in sorted(groups, key=lambda group: len(group.prompt.ids)):
        if batch and (len(batch) + 1) * len(group.prompt.ids) > _MAX_POSITIONS_A_PASS:
            yield batch
            batch = []
        batch.append(group)
    if batch:
        yield batch
