"""Routed generation: prompts in, replies with routed calls out - batched, streamed, forced, cancellable.

The loop itself is in :mod:`visionllm_sdk.model.decoding`. Here are the events and replies that callers see,
and the dispatch of routed calls to their tools.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from PIL.Image import Image
from pydantic import BaseModel

from visionllm_sdk.errors import ToolError
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.assembly import AnyTool, Model
from visionllm_sdk.model.conversation import conversation_format
from visionllm_sdk.model.decoding import CancelToken, DecodedRow, Decoder, GenerationRequest, StepResult
from visionllm_sdk.model.forced import ForcedRequest, ForcedRouter
from visionllm_sdk.model.reply import Link, RoutedCall, group_calls
from visionllm_sdk.model.sampling import GenerationOptions
from visionllm_sdk.model.session import Session
from visionllm_sdk.tool import ToolOptions, ToolRequest

__all__ = [
    "CallDone", "CancelToken", "ForcedRequest", "GeneratedReply", "GenerationOptions", "GenerationRequest",
    "Generator", "Link", "LinkDone", "ReplyDone", "RoutedCall", "Session", "TextDelta", "ToolJob",
    "run_tools",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GeneratedReply:
    """A finished reply.

    Attributes:
        text: as people read it, without control tokens.
        raw_text: with control tokens spelled out, queries left out.
        ids: generated ids, queries left out.
        calls: neighbouring routing tokens grouped, one call each.
        finish: ``stop``, ``stop_string`` (at a stop text), ``length``, ``calls`` (more routing tokens than
            allowed) or ``cancelled``.
        prompt_tokens: length of the prompt.
        reused_tokens: prompt tokens that the session already knew.
        probability: geometric mean over the generated ids, as the model sees them before any bias or grammar;
            1 where nothing was generated.
    """

    text: str
    raw_text: str
    ids: tuple[int, ...]
    calls: tuple[RoutedCall, ...]
    finish: str
    prompt_tokens: int
    reused_tokens: int = 0
    probability: float = 1.0


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text at the end of a reply."""

    request: int
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class LinkDone:
    """A routing token was written and its super-link is complete."""

    request: int
    link: Link


@dataclass(frozen=True, slots=True, eq=False)
class CallDone:
    """No further label can join this call: its tool may run."""

    request: int
    call: RoutedCall


@dataclass(frozen=True, slots=True, eq=False)
class ReplyDone:
    """A reply is finished."""

    request: int
    reply: GeneratedReply


Event = TextDelta | LinkDone | CallDone | ReplyDone


@dataclass(slots=True)
class _Streamed:
    """What of a reply has been passed on."""

    text: str = ""
    calls: int = 0


class Generator:
    """Answers prompts with one loaded model.

    Args:
        model: a loaded checkpoint.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self.builder = model.prompt_builder()
        tokenizer = model.tokenizer
        ends = conversation_format(model.config.conversation).stop_tokens
        stop_ids = [tokenizer.control_id(text) for text in ends if tokenizer.has_control(text)]
        self._decoder = Decoder(model.core, tokenizer, stop_ids=stop_ids)
        self._single = tuple(
            token.text for tool in model.registry for token in tool.tokens if not token.grouped
        )
        self._router = ForcedRouter(
            model.core,
            tokenizer,
            self.builder,
            label_tags=model.config.sdk.label_tags,
            layouts=dict(model.config.sdk.layouts),
            max_labels=model.config.sdk.max_forced_labels,
        )

    def generate(self, requests: Sequence[GenerationRequest]) -> list[GeneratedReply]:
        """Answer all requests as one batch; reply i belongs to request i.

        A cancelled request yields the reply so far with ``finish == "cancelled"``.

        Raises:
            LimitError: a prompt is too long.
            InputError: options name an unknown routing token.
        """
        replies: dict[int, GeneratedReply] = {}
        for steps in self._decoder.run(requests):
            replies |= {step.row.index: self._reply(step.row) for step in steps if step.row.finish}
        return [replies[index] for index in range(len(requests))]

    def stream(self, requests: Sequence[GenerationRequest]) -> Iterator[Event]:
        """Answer all requests as one batch and yield events as they happen. Closing the iterator stops it.

        Raises:
            As :meth:`generate`.
        """
        state = {index: _Streamed() for index in range(len(requests))}
        for steps in self._decoder.run(requests):
            for step in steps:
                yield from self._events(step, state[step.row.index])

    def forced(self, requests: Sequence[ForcedRequest]) -> list[list[RoutedCall]]:
        """Super-links of known labels by one forward pass; see :class:`ForcedRouter`."""
        return self._router.run(requests)

    def _events(self, step: StepResult, state: _Streamed) -> Iterator[Event]:
        row = step.row
        if step.link is not None:
            yield LinkDone(row.index, step.link)
        text = _visible_text(row)
        if text != state.text and text.startswith(state.text):
            yield TextDelta(row.index, text[len(state.text) :])
            state.text = text
        calls = group_calls(row.reply.links, single=self._single)
        closed = calls if row.finish else calls[:-1]
        for call in closed[state.calls :]:
            yield CallDone(row.index, call)
        state.calls = max(state.calls, len(closed))
        if row.finish:
            yield ReplyDone(row.index, self._reply(row))

    def _reply(self, row: DecodedRow) -> GeneratedReply:
        return GeneratedReply(
            text=_cut_at_stop(row.reply.text, row.request.options.stop),
            raw_text=row.reply.raw_text,
            ids=tuple(row.reply.ids),
            calls=tuple(group_calls(row.reply.links, single=self._single)),
            finish=row.finish,
            prompt_tokens=len(row.request.prompt.ids),
            reused_tokens=row.reused,
            probability=math.exp(min(0.0, row.logprob / max(1, len(row.reply.ids)))),
        )


def _visible_text(row: DecodedRow) -> str:
    """Text that can no longer turn out to be part of a stop text or the label of a routing token."""
    stops = row.request.options.stop
    text = row.reply.text if row.finish else row.reply.settled_text
    if row.finish or not stops:
        return _cut_at_stop(text, stops)
    held = max(
        (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0
    )
    return text[: len(text) - held]


def _cut_at_stop(text: str, stops: Sequence[str]) -> str:
    starts = [text.index(stop) for stop in stops if stop in text]
    return text[: min(starts)] if starts else text


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolJob:
    """A routed call to be carried out.

    Attributes:
        call: the routed call.
        image: the image at full resolution, RGB.
        image_key: names its content (`LoadedImage.digest`), so that a tool need not look twice; may be empty.
        options: typed arguments; None takes the tool's defaults.
        instruction: the user's text of this turn.
    """

    call: RoutedCall
    image: Image | None = None
    image_key: str = ""
    options: ToolOptions | None = None
    instruction: str = ""

    @classmethod
    def about(cls, image: LoadedImage | None, call: RoutedCall, **more: Any) -> Self:
        """A job on an image that has a fingerprint.

        Args:
            image: None if there is none.
            call: the routed call.
            more: the other attributes.
        """
        if image is None:
            return cls(call=call, **more)
        return cls(call=call, image=image.image, image_key=image.digest, **more)


@dataclass(slots=True)
class _Queue:
    tool: AnyTool
    places: list[int] = field(default_factory=list)
    requests: list[ToolRequest[Any]] = field(default_factory=list)


@torch.no_grad()
def run_tools(jobs: Sequence[ToolJob], tools: Mapping[str, AnyTool]) -> list[BaseModel]:
    """Carry out routed calls: one batched run per tool, whatever the mix; result i belongs to job i.

    Args:
        jobs: calls with their images and options.
        tools: loaded tools by name.

    Raises:
        ToolError: no loaded tool claims a routing token, an image is missing, options are of another tool, or
            a tool returns the wrong number of results.
    """
    by_token = {token.text: tool for tool in tools.values() for token in tool.tokens}
    queues: dict[str, _Queue] = {}
    for place, job in enumerate(jobs):
        tool = by_token.get(job.call.token)
        if tool is None:
            raise ToolError(
                "no loaded tool carries out this routing token",
                value=job.call.token,
                limit=", ".join(by_token) or "no tool is loaded",
                remedy="Load the tool, or use a checkpoint that has its decoder.",
            )
        queue = queues.setdefault(tool.name, _Queue(tool))
        queue.places.append(place)
        queue.requests.append(_tool_request(job, tool))
    results: dict[int, BaseModel] = {}
    for queue in queues.values():
        answers = queue.tool.run(queue.requests)
        if len(answers) != len(queue.requests):
            raise ToolError(
                f"tool {queue.tool.name!r} returned the wrong number of results",
                value=len(answers),
                limit=len(queue.requests),
                remedy="Correct its run method: one result per request.",
            )
        results |= dict(zip(queue.places, answers, strict=True))
    return [results[place] for place in range(len(jobs))]


def _tool_request(job: ToolJob, tool: AnyTool) -> ToolRequest[Any]:
    if tool.needs_image and job.image is None:
        raise ToolError(
            f"tool {tool.name!r} needs an image",
            value=job.call.token,
            remedy="Pass an image with the request.",
        )
    options = tool.options_type() if job.options is None else job.options
    if not isinstance(options, tool.options_type):
        raise ToolError(
            f"options of another tool were given to {tool.name!r}",
            value=type(options).__name__,
            limit=tool.options_type.__name__,
            remedy="Pass options of the right type.",
        )
    return ToolRequest(
        token=job.call.token,
        links=job.call.super_links,
        options=options,
        image=job.image,
        image_key=job.image_key,
        context=tuple(link for link in job.call.context if link.token in tool.context_tokens),
        instruction=job.instruction,
    )
