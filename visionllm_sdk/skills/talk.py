"""Free routing: the model writes, its routed calls are carried out, and it closes with what was found."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from visionllm_sdk import generation
from visionllm_sdk.errors import GenerationCancelled
from visionllm_sdk.generation import GeneratedReply, GenerationRequest
from visionllm_sdk.results import Answer, Reply, RoutedCall
from visionllm_sdk.scenes.phrases import SHORT_ANSWER_HINT
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.history import Conversation
from visionllm_sdk.skills.settings import TalkSettings
from visionllm_sdk.skills.steps import (
    carry_out,
    closing_question,
    closing_request,
    distinct_calls,
    meaning,
    questions_of,
    reply_of,
    request_for,
)

CAPTION_REQUEST: Final = "describe the image"
_ROWS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class TextDelta:
    """New text at the end of the reply."""

    text: str


@dataclass(frozen=True, slots=True)
class CallDone:
    """A routed call was carried out; `call.result` holds what its tool returned."""

    call: RoutedCall


@dataclass(frozen=True, slots=True)
class ReplyDone:
    """The reply is finished; its text is that of all deltas together."""

    reply: Reply


TalkEvent: TypeAlias = TextDelta | CallDone | ReplyDone


def chat(engine: Engine, talks: Sequence[Conversation], settings: TalkSettings) -> list[Reply]:
    """Answer messages in batches; reply i belongs to message i."""
    replies: list[Reply] = []
    for start in range(0, len(talks), _ROWS_AT_ONCE):
        with engine.turn():
            replies += _chat(engine, talks[start : start + _ROWS_AT_ONCE], settings)
    return replies


def _chat(engine: Engine, talks: Sequence[Conversation], settings: TalkSettings) -> list[Reply]:
    questions = questions_of(engine, talks)
    drafts = engine.generator.generate([request_for(engine, one, settings) for one in questions])
    wanted = [
        (talk, call) for talk, draft in zip(talks, drafts, strict=True) for call in distinct_calls(draft)
    ]
    try:
        calls = carry_out(engine, wanted, settings)
    except GenerationCancelled:  # a reply whose calls were stopped is as one that was stopped while written
        drafts = [replace(one, calls=(), finish="cancelled") if one.calls else one for one in drafts]
        calls = []
    remaining = iter(calls)
    made = [[next(remaining) for _ in distinct_calls(draft)] for draft in drafts]
    closings = [
        closing_question(engine, question, draft, own)
        for question, draft, own in zip(questions, drafts, made, strict=True)
    ]
    requests = [
        closing_request(engine, one, own, settings) for one, own in zip(closings, made, strict=True) if one
    ]
    endings = iter(engine.generator.generate(requests))
    return [
        reply_of(engine, question, draft, own, next(endings) if closing else None)
        for question, draft, own, closing in zip(questions, drafts, made, closings, strict=True)
    ]


def stream(engine: Engine, talk: Conversation, settings: TalkSettings) -> Iterator[TalkEvent]:
    """Answer one message and yield what happens as it happens.

    Text of a reply that turns out to route is not shown twice: what the model wrote around its calls is
    replaced by the closing sentence, where the checkpoint writes one.
    """
    with engine.turn():
        (question,) = questions_of(engine, [talk])
    made: list[RoutedCall] = []
    meant: set[tuple[str, tuple[str, ...]]] = set()
    held: list[str] | None = None  # text since the first routing token: a closing sentence may replace it
    draft: GeneratedReply | None = None
    stopped = False  # while a tool was at work
    for event in _steps(engine, request_for(engine, question, settings)):
        if isinstance(event, generation.LinkDone) and engine.model.config.sdk.tool_turns:
            held = held or []
        elif isinstance(event, generation.TextDelta) and held is not None:
            held.append(event.text)
        elif isinstance(event, generation.TextDelta):
            yield TextDelta(event.text)
        elif isinstance(event, generation.CallDone) and meaning(event.call) not in meant:
            meant.add(meaning(event.call))
            try:
                with engine.turn():
                    made += carry_out(engine, [(talk, event.call)], settings)
            except GenerationCancelled:
                stopped = True
                continue
            yield CallDone(made[-1])
        elif isinstance(event, generation.ReplyDone):
            draft = event.reply
    assert draft is not None, "a generation ends with its reply"
    draft = replace(draft, finish="cancelled") if stopped else draft
    closing = closing_question(engine, question, draft, made)
    if closing is None and held:
        yield TextDelta("".join(held))
    ending = None
    if closing is not None:
        ending = yield from _close(engine, closing_request(engine, closing, made, settings))
    yield ReplyDone(reply_of(engine, question, draft, made, ending))


def _close(engine: Engine, request: GenerationRequest) -> Generator[TalkEvent, None, GeneratedReply | None]:
    """The closing sentence: its text as it comes about, and the whole."""
    ending: GeneratedReply | None = None
    for event in _steps(engine, request):
        if isinstance(event, generation.TextDelta):
            yield TextDelta(event.text)
        elif isinstance(event, generation.ReplyDone):
            ending = event.reply
    return ending


def answer(engine: Engine, talks: Sequence[Conversation], settings: TalkSettings) -> list[Answer]:
    """Answer in words.

    A checkpoint that knows tool turns may look things up with its tools first, and answers from what they
    report; any other writes no routing token at all.
    """
    if not engine.model.config.sdk.tool_turns:
        settings = replace(settings, generation=replace(settings.generation, tokens=(), require=None))
    replies = chat(engine, talks, settings)
    return [
        Answer(text=reply.text, question=talk.text, probability=reply.probability)
        for reply, talk in zip(replies, talks, strict=True)
    ]


def short(question: str) -> str:
    """A question with the request to answer it in a word or a phrase."""
    return f"{question}\n{SHORT_ANSWER_HINT}"


def _steps(engine: Engine, request: GenerationRequest) -> Iterator[generation.Event]:
    """The events of one request; others may use the model between two of them."""
    events = engine.generator.stream([request])
    while True:
        with engine.turn():
            event = next(events, None)
        if event is None:
            return
        yield event
