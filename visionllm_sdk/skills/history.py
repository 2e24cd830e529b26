"""Conversations as callers hold them, and as the model reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias

from visionllm_sdk.errors import InputError
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.conversation import ForcedCall, Parts, Turn, forced_turn, image_parts
from visionllm_sdk.model.tokenizer import Control, TextTokenizer
from visionllm_sdk.regions import Region, RegionBlock, question_with_regions
from visionllm_sdk.results import Answer, Picture, Reply, RoutedCall
from visionllm_sdk.skills.arguments import ImageRules, Images, as_list, check_message, each
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.wording import report


@dataclass(frozen=True)
class PastTurn:
    """One earlier exchange of a conversation.

    Attributes:
        text: what the user said.
        reply: what the model replied.
        images: that came with the text, one or several.
        regions: region prompts that came with the text.
    """

    text: str
    reply: Reply | Answer | str
    images: Images = field(default=())
    regions: Sequence[Region | RegionBlock] = field(default=())


History: TypeAlias = Sequence[PastTurn | tuple[str, Reply | Answer | str]]
"""Earlier turns, oldest first."""


@dataclass(frozen=True)
class Mark:
    """A region prompt, and which of the conversation's images it lies in."""

    image: int
    region: Region


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """A message with everything that stands before it.

    Attributes:
        text: the message.
        images: of the whole conversation, in the order of the text.
        past: earlier turns, each with its number of images.
        new_images: how many of the images come with the message.
        given: for every earlier turn, and last the message, where in `images` those stand that were given
            with it, in that order; empty where nothing was moved, so that they are those of its turn.
        marks: region prompts of every earlier turn, and last of the message; empty if there are none.
    """

    text: str
    images: tuple[LoadedImage, ...]
    past: tuple[tuple[PastTurn, int], ...]
    new_images: int
    given: tuple[tuple[int, ...], ...] = ()
    marks: tuple[tuple[Mark, ...], ...] = ()

    def question(self, turn: int) -> Parts:
        """What was asked in a turn, without its images; -1 is the message."""
        text = self.text if turn == -1 else check_message(self.past[turn][0].text)
        return question_with_regions(text, len(self.marks[turn]) if self.marks else 0)[0]

    def own_images(self, turn: int) -> Sequence[int]:
        """Where in `images` those of a turn stand, as its caller counts them; -1 is the message.

        A turn without images of its own speaks of all before it.
        """
        counts = [*(count for _, count in self.past), self.new_images]
        end = sum(counts[: turn + 1]) if turn >= 0 else len(self.images)
        own = self.given[turn] if self.given else range(end - counts[turn], end)
        return own or range(end)

    @property
    def place(self) -> int:
        """Where in `images` the one stands that routed tools look at: the last that the message speaks of.

        -1 where there is none.
        """
        own = self.own_images(-1)
        return own[-1] if own else -1

    @property
    def image(self) -> LoadedImage | None:
        """What routed tools look at."""
        return self.images[self.place] if self.images else None


def conversation(text: str, images: Images, history: History, rules: ImageRules) -> Conversation:
    """Check a message and its history.

    An image that an earlier reply has seen stands in front of the question of that turn, and one that none
    has seen comes with the message. Where replies do not tell (those given as strings or answers) and turns
    carry no images of their own, images stand in front of the first question, where training had them.
    Pictures that a reply produced stand in front of what the user says next, and need not be given again.

    Raises:
        InputError: an empty message, or a history that is not made of turns.
        ImageError: an image that cannot be used; the message says which one.
    """
    new = each(as_list(images), rules.load, "image")
    turns = each(_past(history), _past_turn, "turn")
    old = [
        each(as_list(turn.images), rules.load, f"turn {number}, image") for number, turn in enumerate(turns)
    ]
    made = [each(_produced(turn), rules.load, f"turn {number}, picture") for number, turn in enumerate(turns)]
    shown = {picture.digest for pictures in made for picture in pictures}
    message, sources = list(new), [list(some) for some in old]
    new = [image for image in new if image.digest not in shown]
    old, new = _placed(new, turns, old)
    for number, pictures in enumerate(made):
        (old[number + 1] if number + 1 < len(old) else new)[:0] = pictures
    ends = list(accumulate(map(len, old)))
    everything = (*(image for some in old for image in some), *new)
    return Conversation(
        text=check_message(text),
        images=everything,
        given=(
            *(_places(some, everything[:end]) for some, end in zip(sources, ends, strict=True)),
            _places(message, everything),
        ),
        past=tuple((turn, len(some)) for turn, some in zip(turns, old, strict=True)),
        new_images=len(new),
    )


def _places(given: Sequence[LoadedImage], images: Sequence[LoadedImage]) -> tuple[int, ...]:
    """Where images stand among others, the last of equal ones."""
    last = {image.digest: place for place, image in enumerate(images)}
    return tuple(last[image.digest] for image in given)


def _placed(
    given: list[LoadedImage], turns: list[PastTurn], own: list[list[LoadedImage]]
) -> tuple[list[list[LoadedImage]], list[LoadedImage]]:
    """Images by turn, those of a call put where they were first seen, and what comes with the message."""
    seen = [turn.reply.seen if isinstance(turn.reply, Reply) else None for turn in turns]
    if turns and not any(own) and all(digests is None for digests in seen):
        return [given, *own[1:]], []
    known = {image.digest for images in own for image in images}
    old, new = [list(images) for images in own], list[LoadedImage]()
    for image in given:
        saw = (turn for turn, digests in enumerate(seen) if digests and image.digest in digests)
        first = next(saw, None)
        if first is None:
            new.append(image)
        elif image.digest not in known:
            old[first].append(image)
    return old, new


def _produced(turn: PastTurn) -> list[Picture]:
    """Pictures of a reply that can be looked at."""
    results = turn.reply.results if isinstance(turn.reply, Reply) else ()
    return [result for result in results if isinstance(result, Picture) and result.refused is None]


def _past(history: object) -> Sequence[Any]:
    if not isinstance(history, Sequence) or isinstance(history, str):
        raise InputError(
            "a history is a list of turns",
            value=history,
            limit="a list of PastTurn, or of pairs of text and reply",
            remedy="Pass history=[(text, reply), ...], or leave it out.",
        )
    return history


def _past_turn(turn: object) -> PastTurn:
    past = PastTurn(*turn) if isinstance(turn, tuple) and len(turn) == 2 else turn
    if not isinstance(past, PastTurn) or not isinstance(past.reply, Reply | Answer | str):
        raise InputError(
            "this is not an earlier turn",
            value=turn,
            limit="a PastTurn, or a pair of text and reply",
            remedy="Pass history=[(text, reply), ...].",
        )
    check_message(past.text)
    return past


def past_turns(talk: Conversation, engine: Engine) -> list[Turn]:
    """The earlier turns as the model wrote them: routed calls, what the tools reported, closing words."""
    turns: list[Turn] = []
    for number, (past, images) in enumerate(talk.past):
        question = (*image_parts(images), *talk.question(number))
        calls = past.reply.calls if isinstance(past.reply, Reply) else ()
        if not calls:
            turns.append(Turn(question, (str(past.reply),)))
            continue
        turns.append(Turn(question, routed_answer(calls, engine)))
        found = report(calls)
        if found is not None and engine.model.config.sdk.tool_turns:
            turns.append(Turn((found,), (str(past.reply),), role="tool"))
    return turns


def routed_answer(calls: Sequence[RoutedCall], engine: Engine) -> Parts:
    """An answer with these routed calls, in the checkpoint's own form."""
    settings = engine.model.config.sdk
    answers = [
        forced_turn(
            [ForcedCall(token=engine.token(call.token), labels=call.labels or ("",))],
            images=0,
            label_tags=settings.label_tags,
            layouts=settings.layouts,
        ).answer
        for call in calls
    ]
    parts: list[str | Control] = []
    for number, answer in enumerate(answers):
        parts += [" ", *(answer or ())] if number else (answer or ())
    return tuple(parts)


def parts_of(ids: Sequence[int], tokenizer: TextTokenizer) -> Parts:
    """Generated ids as prompt parts: only what the model wrote as a control token becomes one."""
    parts: list[str | Control] = []
    words: list[int] = []
    for index in ids:
        control = tokenizer.control_text(index)
        if control is None:
            words.append(index)
            continue
        parts += [tokenizer.decode_segment(words)] if words else []
        parts.append(Control(control))
        words = []
    return tuple([*parts, tokenizer.decode_segment(words)] if words else parts)
