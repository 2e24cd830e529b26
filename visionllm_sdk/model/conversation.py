"""Conversation formats: turns of questions and answers as one sequence of prompt parts.

A format yields :data:`~visionllm_sdk.model.tokenizer.MarkedPart` items, in which the answers (with their
end mark) are marked as supervised. Control tokens enter as ``Control`` parts only, so that nothing a user
types becomes one. The layouts of the released model for forced routing stand here too, for the tools to use.
This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from visionllm_sdk.errors import ConfigError, InputError
from visionllm_sdk.model.tokenizer import IMAGE, REGION, Control, MarkedPart, Part
from visionllm_sdk.tool import ForcedLayout, RoutingToken

Parts = tuple[Part, ...]


@dataclass(frozen=True, slots=True)
class Turn:
    """One question and its answer; the last turn of a prompt to be answered has none.

    Attributes:
        question: what is asked, or what a tool reports.
        answer: what the model replied.
        role: who speaks first, the user or a tool.
    """

    question: Parts
    answer: Parts | None = None
    role: Literal["user", "tool"] = "user"


@dataclass(frozen=True, slots=True, kw_only=True)
class ConversationFormat:
    """How turns become one sequence.

    Attributes:
        name: as in the configuration.
        system: text of the system part.
        system_open, system_close: around the system text.
        question_open, question_close: around a question.
        tool_open: instead of ``question_open``, before what a tool reports.
        answer_open, answer_close: around an answer; the end mark is supervised, the opening is not.
        answer_lead: starts the answer's text and is not part of a prompt that asks for one.
        stop_tokens: control tokens that end a reply.
    """

    name: str
    system: str
    system_open: Parts = ()
    system_close: Parts = ()
    question_open: Parts = ()
    tool_open: Parts = ()
    question_close: Parts = ()
    answer_open: Parts = ()
    answer_lead: Parts = ()
    answer_close: Parts = ()
    stop_tokens: tuple[str, ...] = ("</s>",)

    def render(self, turns: Sequence[Turn], *, system: str | None = None) -> list[MarkedPart]:
        """Lay turns out as marked parts, starting with ``<s>``.

        Args:
            turns: all but the last need an answer.
            system: replaces the format's system text; the empty string leaves the system part out.

        Raises:
            InputError: no turn, or an unanswered turn before the last.
        """
        if not turns or any(turn.answer is None for turn in turns[:-1]):
            raise InputError(
                "a conversation needs at least one turn, and an answer in every turn before the last",
                value=[turn.answer is not None for turn in turns],
                remedy="Add the missing answers to the history.",
            )
        parts: list[MarkedPart] = [(Control("<s>"), False)]
        text = self.system if system is None else system
        if text:
            parts += _plain((*self.system_open, text, *self.system_close))
        for turn in turns:
            opening = self.tool_open if turn.role == "tool" else self.question_open
            question = (*opening, *turn.question, *self.question_close)
            parts += _plain((*question, *self.answer_open))
            if turn.answer is not None:
                parts += [(part, True) for part in (*self.answer_lead, *turn.answer, *self.answer_close)]
        return parts


def _plain(parts: Iterable[Part]) -> list[MarkedPart]:
    return [(part, False) for part in parts]


VICUNA_V1 = ConversationFormat(
    name="vicuna_v1",
    system=(
        "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
        "helpful, detailed, and polite answers to the user's questions."
    ),
    system_close=(" ",),
    question_open=("USER: ",),
    tool_open=("TOOL: ",),
    question_close=(" ",),
    answer_open=("ASSISTANT:",),
    answer_lead=(" ",),
    answer_close=(Control("</s>"),),
)

INTERNLM2_CHAT = ConversationFormat(
    name="internlm2_chat",
    system="You are an AI assistant whose name is InternLM (书生·浦语).",
    system_open=(Control("<|im_start|>"), "system\n"),
    system_close=(Control("<|im_end|>"),),
    question_open=(Control("<|im_start|>"), "user\n"),
    tool_open=(Control("<|im_start|>"), "environment\n"),
    question_close=(Control("<|im_end|>"),),
    answer_open=(Control("<|im_start|>"), "assistant\n"),
    answer_close=(Control("<|im_end|>"),),
    stop_tokens=("<|im_end|>", "</s>"),
)

_FORMATS = {one.name: one for one in (VICUNA_V1, INTERNLM2_CHAT)}


def conversation_format(name: str) -> ConversationFormat:
    """The format of that name.

    Raises:
        ConfigError: unknown name.
    """
    if name not in _FORMATS:
        raise ConfigError(
            "unknown conversation format",
            value=name,
            limit=", ".join(_FORMATS),
            remedy="Correct config.json.",
        )
    return _FORMATS[name]


# -- parts of a question -----------------------------------------------------------------------------------


def image_parts(count: int = 1) -> Parts:
    """``<image>`` and a line break, ``count`` times: how images open the first question."""
    return (Control(IMAGE), "\n") * count


def region_parts(name: str) -> Parts:
    """``<reg>name<region></reg>``: a region prompt in a question."""
    return Control("<reg>"), name, Control(REGION), Control("</reg>")


def region_list(names: Sequence[str], separator: str = ", ") -> Parts:
    """Several region prompts, joined."""
    return _join([region_parts(name) for name in names], separator)


def _join(items: Sequence[Parts], separator: str) -> Parts:
    parts: list[Part] = []
    for position, item in enumerate(items):
        parts += [separator, *item] if position else item
    return tuple(parts)


# -- forced routing ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ForcedCall:
    """One routing token with known labels, to be laid out without decoding.

    Attributes:
        token: declaration of the routing token.
        labels: what the answer names, in order.
        layout: replaces the token's own layout.
        slot: replaces the labels in the question, for region prompts or several of them.
    """

    token: RoutingToken
    labels: tuple[str, ...]
    layout: ForcedLayout | None = None
    slot: Parts | None = None


def forced_turn(
    calls: Sequence[ForcedCall],
    *,
    images: int = 1,
    label_tags: bool = False,
    layouts: Mapping[str, ForcedLayout] | None = None,
) -> Turn:
    """Lay out question and answer of a turn whose labels are known.

    Several calls follow one another in one turn, as the released model asks for poses (object classes first,
    then keypoint names). Labels enter as plain strings: they cannot become control tokens.

    Args:
        calls: the routing tokens and their labels.
        images: number of ``<image>`` tokens that open the question.
        label_tags: wrap labels in their tag pair, as the checkpoint was trained.
        layouts: layouts of the checkpoint by routing token; they go before the tool's own.
    """
    question: list[Part] = [*image_parts(images)]
    answer: list[Part] = []
    for position, call in enumerate(calls):
        layout = call.layout or (layouts or {}).get(call.token.text) or call.token.layout
        slot = call.slot if call.slot is not None else (layout.separator.join(call.labels),)
        items = [_item(call.token, label, layout, label_tags) for label in call.labels]
        gap = (" ",) if position else ()
        question += [*gap, *_fill(layout.question, "{labels}", slot)]
        answer += [*gap, *_fill(layout.answer, "{items}", _join(items, layout.separator))]
    return Turn(tuple(question), tuple(answer))


def _item(token: RoutingToken, label: str, layout: ForcedLayout, label_tags: bool) -> Parts:
    if label_tags and token.label_tag and label:
        return Control(f"<{token.label_tag}>"), label, Control(f"</{token.label_tag}>"), Control(token.text)
    before, _, after = layout.item.partition("{token}")
    texts = [text.replace("{label}", label) for text in (before, after)]
    return tuple(part for part in (texts[0], Control(token.text), texts[1]) if part)


def _fill(template: str, slot: str, content: Parts) -> Parts:
    before, found, after = template.partition(slot)
    return tuple(part for part in (before, *(content if found else ()), after) if part)


_IDENTIFY = "Yes, here are the results for {items} in the image."

DETECTION_LAYOUT = ForcedLayout(
    question="Can you analyze the image and identify the {labels} present?", answer=_IDENTIFY
)
GROUNDING_LAYOUT = ForcedLayout(
    question="Where can we locate the {labels} in the image?", answer="Yes, it is {items}.", item="{token}"
)
SEGMENTATION_LAYOUT = ForcedLayout(
    question=(
        "Could you aid me in generating unique masks for every category present in {labels} in this image?"
    ),
    answer=_IDENTIFY,
)
INTERACTIVE_LAYOUT = ForcedLayout(
    question="Can you examine the image and segment the corresponding objects denoted as {labels}?",
    answer="Sure, these objects are {items}.",
)
IN_CONTEXT_LAYOUT = ForcedLayout(
    question="The mask of the first image is {labels}. {image}Please segment the second image.",
    answer="Sure, it is {items}.",
    item="{token}",
)
DESCRIPTION_LAYOUT = ForcedLayout(question="Please describe {labels} in the image.")
RECOGNITION_LAYOUT = ForcedLayout(question="What is {labels} in the image? Answer with its name.")
KEYPOINT_LAYOUT = ForcedLayout(
    question="Can you examine the image and pinpoint the keypoint locations of the {labels}?",
    answer="Utilizing keypoints detection, the image analysis reveals the location of {items}.",
)
GENERATION_LAYOUT = ForcedLayout(
    question="Generate image with caption: {labels}.", answer="Here it is {items}.", item="{token}"
)
EDITING_LAYOUT = ForcedLayout(
    question="Edit the image according to: {labels}.", answer="Here it is {items}.", item="{token}"
)
