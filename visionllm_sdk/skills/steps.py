"""The steps of one reply: build the request, carry out its calls, close with what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import torch
from torch import Tensor

from visionllm_sdk import generation
from visionllm_sdk.errors import InputError
from visionllm_sdk.generation import GeneratedReply, GenerationOptions, GenerationRequest, ToolJob
from visionllm_sdk.model.conversation import Turn, conversation_format, image_parts
from visionllm_sdk.model.prompt import RegionPrompt, TiledImage
from visionllm_sdk.results import Alternative, Detections, Poses, Reply, RoutedCall, Usage
from visionllm_sdk.skills.engine import SKILL_TOKENS, Engine
from visionllm_sdk.skills.history import Conversation, parts_of, past_turns
from visionllm_sdk.skills.marking import pointed_out, region_prompts, tell_regions
from visionllm_sdk.skills.regional import ONE_EACH, one_of_each
from visionllm_sdk.skills.settings import TalkSettings
from visionllm_sdk.skills.wording import report

_CLOSING_TOKENS: Final = 96
_REPORT: Final = "I found"
_FINISH: Final[Mapping[str, Literal["stop", "stop_string", "length", "cancelled"]]] = {
    "stop": "stop",
    "stop_string": "stop_string",
    "length": "length",
    "calls": "length",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A conversation as the model reads it."""

    talk: Conversation
    turns: list[Turn]
    images: list[TiledImage]
    regions: list[RegionPrompt]


def distinct_calls(draft: GeneratedReply) -> list[generation.RoutedCall]:
    """The calls of a reply, each once: a model that says the same thing twice means it once."""
    calls: dict[tuple[str, tuple[str, ...]], generation.RoutedCall] = {}
    for call in draft.calls:
        calls.setdefault(meaning(call), call)
    return list(calls.values())


def meaning(call: generation.RoutedCall) -> tuple[str, tuple[str, ...]]:
    """What a call asks for; equal for calls that repeat each other."""
    return call.token, tuple(dict.fromkeys(call.labels))


def questions_of(engine: Engine, talks: Sequence[Conversation]) -> list[Question]:
    """Conversations as the model reads them; all their images are looked at together."""
    pointed = any(talk.marks for talk in talks)
    seen = iter(engine.see([image for talk in talks for image in talk.images], pointed=pointed))
    return [
        Question(
            talk=talk,
            turns=[*past_turns(talk, engine), Turn((*image_parts(talk.new_images), *talk.question(-1)))],
            images=[next(seen) for _ in talk.images],
            regions=regions,
        )
        for talk, regions in zip(talks, region_prompts(engine, talks), strict=True)
    ]


def request_for(engine: Engine, question: Question, settings: TalkSettings) -> GenerationRequest:
    """A conversation as a prompt, with the caller's limits and system prompt."""
    builder = engine.generator.builder
    if settings.system is not None:
        builder = replace(builder, system=settings.system)
    prompt = builder.build(question.turns, question.images, question.regions)
    return GenerationRequest(
        prompt=prompt,
        options=opening(engine, settings.generation, len(prompt.ids)),
        question=question.talk.text,
        session=engine.session,
        cancel=settings.cancel,
    )


def opening(engine: Engine, options: GenerationOptions, start: int) -> GenerationOptions:
    """Let a reply that must route begin with the label of its routing token, where labels are tagged."""
    first = next(iter(options.before), options.require)
    tag = None if first is None or options.require is None else engine.opening_tag(first)
    return options if tag is None else begun(options, [tag], start)


def begun(options: GenerationOptions, tokens: Sequence[int], start: int) -> GenerationOptions:
    """Options under which a reply begins with given tokens.

    Args:
        options: of the reply.
        tokens: ids.
        start: length of the prompt.
    """

    def only_these_first(ids: Tensor, scores: Tensor) -> Tensor:
        step = ids.shape[1] - start
        if step >= len(tokens):
            return scores
        first = torch.full_like(scores, -torch.inf)
        first[:, tokens[step]] = 0.0
        return first

    return replace(options, processors=(*options.processors, only_these_first))


def carry_out(
    engine: Engine, calls: Sequence[tuple[Conversation, generation.RoutedCall]], settings: TalkSettings
) -> list[RoutedCall]:
    """Run the tools of routed calls, all of them in one batch.

    Things that were marked are there: each has its detection, unless the caller set a threshold.

    Raises:
        InputError: a tool needs an image, and the conversation has none.
        GenerationCancelled: the caller has cancelled while a tool was at work.
    """
    asked = settings.tool_options
    finds = SKILL_TOKENS["detect"] if asked.get("threshold") is None else None
    marked = [
        pointed_out(talk.marks[-1] if talk.marks else (), talk.place + 1, call.labels)
        if call.token == finds
        else {}
        for talk, call in calls
    ]
    jobs = [
        ToolJob.about(
            talk.image,
            call,
            options=engine.known_options(call.token, {**asked, **ONE_EACH} if own else asked),
            instruction=talk.text,
        )
        for (talk, call), own in zip(calls, marked, strict=True)
    ]
    for job in jobs:
        if job.image is None and engine.kind(job.call.token).needs_image:
            raise InputError(
                "the message asks to look at an image, and there is none",
                value=job.instruction,
                remedy="Pass images=[...].",
            )
    results = [
        one_of_each(result, own) if isinstance(result, Detections) else result
        for result, own in zip(engine.run(jobs), marked, strict=True)
    ]
    return [
        RoutedCall(
            token=call.token,
            tool=engine.registry.by_token(call.token).name,
            labels=meaning(call)[1],
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


def closing_question(
    engine: Engine, question: Question, draft: GeneratedReply, calls: Sequence[RoutedCall]
) -> Question | None:
    """The conversation with what the tools found, for the model to put into words."""
    found = report(calls)
    if found is None or not engine.model.config.sdk.tool_turns or draft.finish == "cancelled":
        return None
    said = replace(question.turns[-1], answer=parts_of(draft.ids, engine.model.tokenizer))
    told = Turn((found,), role="tool")
    return replace(question, turns=[*question.turns[:-1], said, told])


def closing_request(
    engine: Engine, closing: Question, calls: Sequence[RoutedCall], settings: TalkSettings
) -> GenerationRequest:
    """The closing sentence as a prompt: it is short, certain, and calls nothing.

    Poses are asked for to be shown, never to learn yes or no: that sentence begins as a report does.
    """
    plain = GenerationOptions(max_new_tokens=_CLOSING_TOKENS, tokens=(), stop=settings.generation.stop)
    request = request_for(engine, closing, replace(settings, generation=plain))
    if not any(isinstance(call.result, Poses) for call in calls):
        return request
    form = conversation_format(engine.model.config.conversation)
    before, after = form.answer_open, (*form.answer_lead, _REPORT)
    ids, marks = engine.model.tokenizer.encode(
        [*((part, False) for part in before), *((part, True) for part in after)]
    )
    first = [index for index, mark in zip(ids, marks, strict=True) if mark]
    return replace(request, options=begun(request.options, first, len(request.prompt.ids)))


def reply_of(
    engine: Engine,
    question: Question,
    draft: GeneratedReply,
    calls: Sequence[RoutedCall],
    ending: GeneratedReply | None,
) -> Reply:
    """The typed reply; its words are those of the closing sentence where there is one."""
    last = ending or draft
    cut = draft.finish in ("length", "calls", "cancelled")  # a whole closing sentence does not tell it
    patches = sum(image.tiles for image in question.images) * engine.model.core.tokens_per_tile
    return Reply(
        text=last.text.strip(),
        calls=tuple(calls),
        finish_reason=_FINISH[draft.finish if cut else last.finish],
        usage=Usage(
            input_tokens=draft.prompt_tokens,
            image_tokens=patches,
            output_tokens=len(draft.ids) + (len(ending.ids) if ending else 0),
        ),
        probability=last.probability,
        seen=tuple(image.digest for image in question.talk.images),
    )
