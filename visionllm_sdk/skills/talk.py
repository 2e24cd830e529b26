"""Free routing: the model writes, its routed calls are carried out, and it closes with what was found."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, TypedDict

import torch
from torch import Tensor

from visionllm_sdk import generation
from visionllm_sdk.adapters import AdapterChoice
from visionllm_sdk.errors import InputError
from visionllm_sdk.generation import (
    CancelToken,
    GeneratedReply,
    GenerationOptions,
    GenerationRequest,
    ToolJob,
)
from visionllm_sdk.model.conversation import Turn, image_parts
from visionllm_sdk.model.prompt import RegionPrompt, TiledImage
from visionllm_sdk.results import Alternative, Answer, Reply, RoutedCall, Usage
from visionllm_sdk.scenes.phrases import SHORT_ANSWER_HINT
from visionllm_sdk.skills.arguments import check_threshold
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.history import Conversation, parts_of, past_turns
from visionllm_sdk.skills.marking import Regions, region_prompts, tell_regions
from visionllm_sdk.skills.wording import report

CAPTION_REQUEST: Final = "describe the image"
_ROWS_AT_ONCE = 16
_CLOSING_TOKENS = 96
_PICTURE_OPTIONS = ("seed", "steps", "guidance", "watch")
_FINISH: Final[Mapping[str, Literal["stop", "length", "cancelled"]]] = {
    "stop": "stop",
    "length": "length",
    "calls": "length",
    "cancelled": "cancelled",
}


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


class ChatSettings(TypedDict, total=False):
    """What a caller may say beside the message.

    Attributes:
        system: replaces the checkpoint's system prompt; the empty string leaves it out.
        force: routing token or skill (``"[DET]"``, ``"detect"``) that the reply must use.
        forbid: routing tokens or skills that it must not use.
        threshold: lowest score of what tools return; None takes the checkpoint's own.
        seed: of the noise of produced pictures; None draws one.
        steps: denoising steps of produced pictures; None takes the checkpoint's own number.
        guidance: how closely produced pictures follow the words; None takes the checkpoint's own.
        watch: is called after every denoising step, also while streaming; its argument draws previews.
        regions: region prompts of the message; for a list of messages one such entry for each.
        options: limits and sampling.
        cancel: stops the request from another thread.
        adapter: name of a loaded adapter to answer with; for a list of messages also one for each.
    """

    system: str | None
    force: str | None
    forbid: str | Sequence[str]
    threshold: float | None
    regions: Regions | Sequence[Regions | None] | None
    seed: int | None
    steps: int | None
    guidance: float | None
    watch: Callable[[Any], None] | None
    options: GenerationOptions | None
    cancel: CancelToken | None
    adapter: AdapterChoice


@dataclass(frozen=True, slots=True, kw_only=True)
class TalkSettings:
    """How a message is answered.

    Attributes:
        generation: limits, sampling, and which routing tokens may be used.
        tool_options: options of the tools by name; those that a tool does not have are left out.
        system: replaces the checkpoint's system prompt.
        cancel: stops the request from another thread.
    """

    generation: GenerationOptions
    tool_options: Mapping[str, Any] = field(default_factory=dict)
    system: str | None = None
    cancel: CancelToken | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Question:
    """A conversation as the model reads it."""

    talk: Conversation
    turns: list[Turn]
    images: list[TiledImage]
    regions: list[RegionPrompt]


def talk_settings(engine: Engine, settings: ChatSettings) -> TalkSettings:
    """Check what a caller said beside the message.

    Raises:
        InputError: an unknown setting, token or skill, one that is both forced and forbidden, or a threshold
            out of range.
    """
    unknown = sorted(settings.keys() - ChatSettings.__annotations__.keys())
    if unknown:
        known = ", ".join(ChatSettings.__annotations__)
        raise InputError("unknown setting", value=unknown[0], limit=known, remedy="Correct its name.")
    return TalkSettings(
        generation=_routing(engine, settings),
        tool_options={
            "threshold": check_threshold(settings.get("threshold")),
            **{name: settings.get(name) for name in _PICTURE_OPTIONS},
            "cancel": settings.get("cancel"),
        },
        system=settings.get("system"),
        cancel=settings.get("cancel"),
    )


def _routing(engine: Engine, settings: ChatSettings) -> GenerationOptions:
    """The generation options with routing tokens forced or forbidden."""
    chosen = settings.get("options") or GenerationOptions()
    forbid, force = settings.get("forbid") or (), settings.get("force")
    names = (forbid,) if isinstance(forbid, str) else forbid
    barred = {token for name in names for token in engine.tokens_of(name)}
    required = chosen.require if force is None else engine.tokens_of(force)[0]
    if required in barred:
        raise InputError("a routing token is both forced and forbidden", value=required)
    allowed = engine.routing_tokens if chosen.tokens is None else chosen.tokens
    tokens = tuple(token for token in allowed if token not in barred)
    return replace(chosen, tokens=tokens, require=required)


def chat(engine: Engine, talks: Sequence[Conversation], settings: TalkSettings) -> list[Reply]:
    """Answer messages in batches; reply i belongs to message i."""
    replies: list[Reply] = []
    for start in range(0, len(talks), _ROWS_AT_ONCE):
        with engine.turn():
            replies += _chat(engine, talks[start : start + _ROWS_AT_ONCE], settings)
    return replies


def _chat(engine: Engine, talks: Sequence[Conversation], settings: TalkSettings) -> list[Reply]:
    questions = _questions(engine, talks)
    drafts = engine.generator.generate([_request(engine, one, settings) for one in questions])
    calls = _carry_out(
        engine,
        [(talk, call) for talk, draft in zip(talks, drafts, strict=True) for call in distinct_calls(draft)],
        settings,
    )
    remaining = iter(calls)
    made = [[next(remaining) for _ in distinct_calls(draft)] for draft in drafts]
    closings = [
        _closing(engine, question, draft, own)
        for question, draft, own in zip(questions, drafts, made, strict=True)
    ]
    endings = iter(
        engine.generator.generate([_request(engine, one, _last_words(settings)) for one in closings if one])
    )
    return [
        _reply(engine, question, draft, own, next(endings) if closing else None)
        for question, draft, own, closing in zip(questions, drafts, made, closings, strict=True)
    ]


def distinct_calls(draft: GeneratedReply) -> list[generation.RoutedCall]:
    """The calls of a reply, each once: a model that says the same thing twice means it once."""
    calls: dict[tuple[str, tuple[str, ...]], generation.RoutedCall] = {}
    for call in draft.calls:
        calls.setdefault(_meaning(call), call)
    return list(calls.values())


def _meaning(call: generation.RoutedCall) -> tuple[str, tuple[str, ...]]:
    return call.token, tuple(dict.fromkeys(call.labels))


def stream(engine: Engine, talk: Conversation, settings: TalkSettings) -> Iterator[TalkEvent]:
    """Answer one message and yield what happens as it happens.

    Text of a reply that turns out to route is not shown twice: what the model wrote around its calls is
    replaced by the closing sentence, where the checkpoint writes one.
    """
    with engine.turn():
        (question,) = _questions(engine, [talk])
    made: list[RoutedCall] = []
    meant: set[tuple[str, tuple[str, ...]]] = set()
    held: list[str] | None = (
        None  # text since the first routing token, where a closing sentence may replace it
    )
    draft: GeneratedReply | None = None
    for event in _steps(engine, _request(engine, question, settings)):
        if isinstance(event, generation.LinkDone) and engine.model.config.sdk.tool_turns:
            held = held or []
        elif isinstance(event, generation.TextDelta) and held is not None:
            held.append(event.text)
        elif isinstance(event, generation.TextDelta):
            yield TextDelta(event.text)
        elif isinstance(event, generation.CallDone) and _meaning(event.call) not in meant:
            meant.add(_meaning(event.call))
            with engine.turn():
                made += _carry_out(engine, [(talk, event.call)], settings)
            yield CallDone(made[-1])
        elif isinstance(event, generation.ReplyDone):
            draft = event.reply
    assert draft is not None, "a generation ends with its reply"
    closing = _closing(engine, question, draft, made)
    if closing is None and held:
        yield TextDelta("".join(held))
    ending = None
    if closing is not None:
        ending = yield from _close(engine, _request(engine, closing, _last_words(settings)))
    yield ReplyDone(_reply(engine, question, draft, made, ending))


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


# -- the steps of one reply --------------------------------------------------------------------------------


def _questions(engine: Engine, talks: Sequence[Conversation]) -> list[_Question]:
    pointed = any(talk.marks for talk in talks)
    seen = iter(engine.see([image for talk in talks for image in talk.images], pointed=pointed))
    return [
        _Question(
            talk=talk,
            turns=[*past_turns(talk, engine), Turn((*image_parts(talk.new_images), *talk.question(-1)))],
            images=[next(seen) for _ in talk.images],
            regions=regions,
        )
        for talk, regions in zip(talks, region_prompts(engine, talks), strict=True)
    ]


def _request(engine: Engine, question: _Question, settings: TalkSettings) -> GenerationRequest:
    builder = engine.generator.builder
    if settings.system is not None:
        builder = replace(builder, system=settings.system)
    prompt = builder.build(question.turns, question.images, question.regions)
    return GenerationRequest(
        prompt=prompt,
        options=_opening(engine, settings.generation, len(prompt.ids)),
        question=question.talk.text,
        session=engine.session,
        cancel=settings.cancel,
    )


def _opening(engine: Engine, options: GenerationOptions, start: int) -> GenerationOptions:
    """Let a reply that must route begin with the label of its routing token, where labels are tagged."""
    tag = engine.opening_tag(options.require) if options.require is not None else None
    if tag is None:
        return options

    def only_the_tag_first(ids: Tensor, scores: Tensor) -> Tensor:
        if ids.shape[1] > start:
            return scores
        first = torch.full_like(scores, -torch.inf)
        first[:, tag] = 0.0
        return first

    return replace(options, processors=(*options.processors, only_the_tag_first))


def _steps(engine: Engine, request: GenerationRequest) -> Iterator[generation.Event]:
    """The events of one request; others may use the model between two of them."""
    events = engine.generator.stream([request])
    while True:
        with engine.turn():
            event = next(events, None)
        if event is None:
            return
        yield event


def _carry_out(
    engine: Engine, calls: Sequence[tuple[Conversation, generation.RoutedCall]], settings: TalkSettings
) -> list[RoutedCall]:
    """Run the tools of routed calls, all of them in one batch."""
    jobs = [
        ToolJob(
            call=call,
            image=talk.image.image if talk.image else None,
            options=engine.known_options(call.token, settings.tool_options),
            instruction=talk.text,
        )
        for talk, call in calls
    ]
    for job in jobs:
        if job.image is None and engine.kind(job.call.token).needs_image:
            raise InputError(
                "the message asks to look at an image, and there is none",
                value=job.instruction,
                remedy="Pass images=[...].",
            )
    results = engine.run(jobs)
    return [
        RoutedCall(
            token=call.token,
            tool=engine.registry.by_token(call.token).name,
            labels=_meaning(call)[1],
            probability=min(call.probability, 1.0),
            alternatives=_alternatives(engine, call.alternatives),
            result=tell_regions(result, talk),
        )
        for (talk, call), result in zip(calls, results, strict=True)
    ]


def _alternatives(engine: Engine, others: Sequence[tuple[str, float]]) -> tuple[Alternative, ...]:
    """Other routing tokens one by one, and all ordinary words together as "no tool"."""
    shares: dict[str, float] = {}
    for text, probability in others:
        token = text if text in engine.registry.token_texts else ""
        shares[token] = min(shares.get(token, 0.0) + probability, 1.0)
    return tuple(Alternative(token=token, probability=share) for token, share in shares.items())


def _closing(
    engine: Engine, question: _Question, draft: GeneratedReply, calls: Sequence[RoutedCall]
) -> _Question | None:
    """The conversation with what the tools found, for the model to put into words."""
    found = report(calls)
    if found is None or not engine.model.config.sdk.tool_turns or draft.finish == "cancelled":
        return None
    said = replace(question.turns[-1], answer=parts_of(draft.ids, engine.model.tokenizer))
    told = Turn((found,), role="tool")
    return replace(question, turns=[*question.turns[:-1], said, told])


def _last_words(settings: TalkSettings) -> TalkSettings:
    """A closing sentence is short, certain, and calls nothing."""
    plain = GenerationOptions(max_new_tokens=_CLOSING_TOKENS, tokens=(), stop=settings.generation.stop)
    return replace(settings, generation=plain)


def _reply(
    engine: Engine,
    question: _Question,
    draft: GeneratedReply,
    calls: Sequence[RoutedCall],
    ending: GeneratedReply | None,
) -> Reply:
    last = ending or draft
    patches = sum(image.tiles for image in question.images) * engine.model.core.tokens_per_tile
    return Reply(
        text=last.text.strip(),
        calls=tuple(calls),
        finish_reason=_FINISH[last.finish],
        usage=Usage(
            input_tokens=draft.prompt_tokens,
            image_tokens=patches,
            output_tokens=len(draft.ids) + (len(ending.ids) if ending else 0),
        ),
        probability=last.probability,
    )
