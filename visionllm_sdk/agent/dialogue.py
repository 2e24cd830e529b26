"""LangChain messages as turns of the model: texts, images, routed calls, and what tools reported."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.messages.tool import ToolCall

from visionllm_sdk.agent.closing import Report, merged_report, report_of
from visionllm_sdk.agent.recipes import Recipe
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.agent.skills import forced_calls
from visionllm_sdk.errors import ImageError, InputError
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.model.conversation import ForcedCall, Parts, Turn, forced_turn, image_parts
from visionllm_sdk.regions import question_with_regions, region_block
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.history import Mark
from visionllm_sdk.skills.marking import mark_in

__all__ = ["OVERLAY", "PRODUCED", "Dialogue", "images_of", "laid_out", "marks_block", "read_dialogue"]

OVERLAY: Final = "overlay_of"
"""Marks an image block, in its `extras`, as a result drawn over another image."""
PRODUCED: Final = "produced"
"""Marks an image block of a tool message, in its `extras`, as a picture that the tool made."""

_ROLES: Final = re.compile(r"\b(USER|ASSISTANT|TOOL)(?=\s*:)")
_IGNORED: Final = (
    "tool_call",
    "tool_call_chunk",
    "invalid_tool_call",
    "reasoning",
    "server_tool_call",
    "citation",
)
_HANDLE: Final = re.compile(r"\bimg_\d{1,12}_[0-9a-f]{16}\b")


@dataclass(kw_only=True)
class Dialogue:
    """A conversation as the model reads it.

    Attributes:
        turns: the last one is unanswered.
        images: in the order of their places in the turns.
        handles: one for each image.
        marks: region prompts in the order of their tokens in the turns.
        system: text of the system messages; None if there is none.
        request: what the user said last.
        said: everything that the user said.
        focus: handles of the images that a routed call looks at: those that the request names, else those of
            the latest message with images.
        reports: the tool messages that wait for an answer.
        calls: all tool calls, by their ids.
        called: names of the tools that were called since the user spoke last.
        told: what tools have reported since then and before the reports that wait.
    """

    turns: list[Turn] = field(default_factory=list)
    images: list[LoadedImage] = field(default_factory=list)
    handles: list[str] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)
    system: str | None = None
    request: str = ""
    said: list[str] = field(default_factory=list)
    focus: list[str] = field(default_factory=list)
    reports: list[ToolMessage] = field(default_factory=list)
    calls: dict[str, ToolCall] = field(default_factory=dict)
    called: list[str] = field(default_factory=list)
    told: list[Report] = field(default_factory=list)


@dataclass
class _Open:
    """A turn that waits for its answer."""

    role: str
    images: int = 0
    texts: list[str] = field(default_factory=list)
    reports: list[Report] = field(default_factory=list)
    marks: list[Mark] = field(default_factory=list)

    def turn(self, answer: Parts | None) -> tuple[Turn, list[Mark]]:
        """The turn, and its region prompts in the order of their tokens."""
        is_report = self.role == "tool"
        text = merged_report(self.reports) if is_report else "\n".join(text for text in self.texts if text)
        parts, order = question_with_regions(text, len(self.marks))
        turn = Turn((*image_parts(self.images), *parts), answer, role="tool" if is_report else "user")
        return turn, [self.marks[number] for number in order]


def read_dialogue(
    messages: Sequence[BaseMessage], session: VisionSession, engine: Engine, rules: ImageRules
) -> Dialogue:
    """Read a conversation; its images are registered in the session.

    Args:
        messages: system, human, AI and tool messages in any order in which they make sense.
        session: of the conversation.
        engine: the model.
        rules: which images are accepted.

    Raises:
        InputError: no message, a tool message without its call, or content that is neither text nor image.
        ImageError: an image that cannot be used.
        HandleError: a `file_id` that is no handle of this session.
    """
    reader = _Reader(session, engine, rules)
    with session.images.held():
        for number, message in enumerate(messages):
            try:
                reader.read(message)
            except InputError as error:
                raise error.at(f"message {number} ({message.type})") from error
        return reader.finish()


def images_of(messages: Sequence[BaseMessage], session: VisionSession, rules: ImageRules) -> list[str]:
    """Register the images of a conversation, without overlays; their handles in order."""
    found = []
    for message in messages:
        blocks = [block for block in message.content_blocks if block["type"] in ("image", "non_standard")]
        for block in blocks:
            if not marks_block(block, OVERLAY) and (image := _image(block, session, rules)):
                found.append(image[0])
    return list(dict.fromkeys(found))


def marks_block(block: Mapping[str, Any], mark: str) -> bool:
    """Whether an image block bears a mark: an overlay is something to look at, not to work on."""
    extras = block.get("extras")
    return isinstance(extras, Mapping) and bool(extras.get(mark))


class _Reader:
    def __init__(self, session: VisionSession, engine: Engine, rules: ImageRules) -> None:
        self._session, self._engine, self._rules = session, engine, rules
        self._dialogue = Dialogue()
        self._open: _Open | None = None
        self._called: set[str] = set()
        self._systems: list[str] = []
        self._made: list[tuple[str, LoadedImage]] = []  # pictures that wait for the next question

    def read(self, message: BaseMessage) -> None:
        if isinstance(message, SystemMessage):
            self._systems.append(message.text)
            self._keep_pictures(message)
        elif isinstance(message, HumanMessage):
            self._read_human(message)
        elif isinstance(message, AIMessage):
            self._read_ai(message)
        elif isinstance(message, ToolMessage):
            self._read_tool(message)
        else:
            raise InputError("a message of this kind cannot be read", value=message.type)

    def finish(self) -> Dialogue:
        dialogue = self._dialogue
        if self._open is None and not dialogue.turns:
            raise InputError(
                "there is no message to answer", value=[], remedy="Pass at least one HumanMessage."
            )
        self._close(self._open or _Open("human"), None)
        dialogue.system = "\n".join(self._systems) if self._systems else None
        named = [handle for handle in _HANDLE.findall(dialogue.request) if handle in self._session.images]
        dialogue.focus = named or dialogue.focus
        return dialogue

    def _read_human(self, message: HumanMessage) -> None:
        made = self._take_made()
        texts, handles = self._content(message)
        marks = self._marks_of(message, len(handles))
        if self._open is not None and self._open.role == "tool":
            self._answer(("",))
        self._dialogue.reports = []
        self._dialogue.called = []
        self._dialogue.told = []
        fresh = self._open is None
        self._open = self._open or _Open("human")
        self._open.images += made + len(handles)
        self._open.texts += texts
        self._open.marks += marks
        said = "\n".join(texts)
        self._dialogue.said.append(said)
        self._dialogue.request = said if fresh else f"{self._dialogue.request}\n{said}".strip()

    def _keep_pictures(self, message: BaseMessage) -> None:
        """Pictures of a message that is no question are shown with the next one."""
        found = images_of([message], self._session, self._rules)
        self._made += [(handle, self._session.images.get(handle)) for handle in found]
        self._dialogue.focus = found or self._dialogue.focus

    def _take_made(self) -> int:
        """Put pictures that were made before the question that comes now, where training had them."""
        for handle, image in self._made:
            self._dialogue.handles.append(handle)
            self._dialogue.images.append(image)
        count = len(self._made)
        self._made = []
        return count

    def _read_ai(self, message: AIMessage) -> None:
        answered = [
            report_of(one.text, self._dialogue.calls[one.tool_call_id]) for one in self._dialogue.reports
        ]
        self._dialogue.told = [*self._dialogue.told, *answered] if message.tool_calls else []
        calls = {call["id"]: call for call in message.tool_calls if call["id"]}
        self._called = set(calls)
        self._dialogue.calls |= calls
        self._dialogue.called += [call["name"] for call in message.tool_calls]
        if self._made and self._open is None and not message.tool_calls:
            self._dialogue.reports = []
            return  # "Here it is": the reply that called has said so
        answer = answer_parts(message, self._engine)
        self._keep_pictures(message)
        if self._open is None and self._dialogue.turns:
            last = self._dialogue.turns.pop()
            self._dialogue.turns.append(Turn(last.question, (*(last.answer or ()), " ", *answer), last.role))
        else:
            self._open = self._open or _Open("human")
            self._answer(answer)

    def _read_tool(self, message: ToolMessage) -> None:
        if message.tool_call_id not in self._called:
            raise InputError(
                "a tool message answers no tool call of the message before it",
                value=message.tool_call_id,
                limit=sorted(self._called),
                remedy="Keep every tool message right behind the AI message that called.",
            )
        known = len(self._made)
        texts, handles = self._content(message)
        self._dialogue.reports.append(message)
        if len(self._made) > known:
            return
        if self._open is None:
            self._open = _Open("tool")
        self._open.images += len(handles)
        text = " ".join(" ".join(texts).split())
        self._open.texts.append(text)
        self._open.reports.append(report_of(text, self._dialogue.calls[message.tool_call_id]))

    def _answer(self, answer: Parts) -> None:
        assert self._open is not None
        self._close(self._open, answer)
        self._open = None
        self._dialogue.reports = []

    def _close(self, turn: _Open, answer: Parts | None) -> None:
        closed, marks = turn.turn(answer)
        self._dialogue.turns.append(closed)
        self._dialogue.marks += marks

    def _marks_of(self, message: HumanMessage, count: int) -> list[Mark]:
        """Region prompts of a message whose `count` images have just joined the dialogue."""
        images = self._dialogue.images
        blocks = [region_block(inner) for block in message.content_blocks if (inner := _region(block))]
        places = range(len(images) - count if count else 0, len(images))  # without images: those before it
        return [mark_in(block, images, places) for block in blocks]

    def _content(self, message: BaseMessage) -> tuple[list[str], list[str]]:
        """Texts and image handles of a message; the images join the dialogue."""
        texts: list[str] = []
        handles: list[str] = []
        looked_at: list[str] = []
        # A checkpoint that learnt to answer from reports in words is not shown drawings of what they say.
        in_words = isinstance(message, ToolMessage) and self._engine.model.config.sdk.tool_turns
        for block in message.content_blocks:
            if in_words and marks_block(block, OVERLAY):
                continue
            if block["type"] in ("text", "text-plain"):
                # Whoever writes a message must not be able to write the other speakers' lines.
                texts.append(_ROLES.sub(lambda role: role.group().lower(), str(block.get("text", ""))))
            elif block["type"] not in _IGNORED and not (isinstance(message, HumanMessage) and _region(block)):
                handle, image = self._seen(block)
                looked_at += [] if marks_block(block, OVERLAY) else [handle]
                if isinstance(message, ToolMessage) and marks_block(block, PRODUCED):
                    self._made.append((handle, image))
                    continue
                handles.append(handle)
                self._dialogue.images.append(image)
        self._dialogue.handles += handles
        self._dialogue.focus = list(dict.fromkeys(looked_at)) or self._dialogue.focus
        return texts, handles

    def _seen(self, block: Mapping[str, Any]) -> tuple[str, LoadedImage]:
        image = _image(block, self._session, self._rules)
        if image is None:
            raise InputError(
                "this model reads texts and images only",
                value=_kind(block),
                limit="text, image and region blocks",
                remedy="Leave the block out.",
            )
        return image


def answer_parts(message: AIMessage, engine: Engine) -> Parts:
    """What an AI message says, as the model writes it.

    A reply of this model is repeated token by token. Calls of another model to our tools are laid out in the
    checkpoint's own form; other calls are told in words.
    """
    recipe = Recipe.of(message)
    if recipe is not None:
        return recipe.reply_parts(engine)
    parts: list[Any] = [message.text] if message.text else []
    for call in message.tool_calls:
        if calls := forced_calls(call["name"], call["args"], engine):
            parts += [" "] if parts else []
            parts += laid_out(calls, engine)
        else:
            parts.append(f"{call['name']} {json.dumps(call['args'], ensure_ascii=False)}")
    return tuple(parts) or ("",)


def laid_out(calls: Sequence[ForcedCall], engine: Engine) -> Parts:
    """The answer that routes these calls, in the checkpoint's own form."""
    settings = engine.model.config.sdk
    turn = forced_turn(calls, images=0, label_tags=settings.label_tags, layouts=settings.layouts)
    return turn.answer or ()


# -- image blocks ------------------------------------------------------------------------------------------


def _image(
    block: Mapping[str, Any], session: VisionSession, rules: ImageRules
) -> tuple[str, LoadedImage] | None:
    """Handle and image of a block; None if it is no image block."""
    if block["type"] == "non_standard":
        inner = block.get("value", {})
        source = inner.get("image_url") if isinstance(inner, Mapping) else None
        url = source.get("url") if isinstance(source, Mapping) else source
        return _from_url(url, session, rules) if isinstance(url, str) else None
    if block["type"] != "image":
        return None
    if isinstance(data := block.get("base64"), str):
        return session.image(data, lambda: rules.load(_decode(data)), origin="message")
    if isinstance(url := block.get("url"), str):
        return _from_url(url, session, rules)
    if isinstance(handle := block.get("file_id", block.get("id")), str):
        return handle, session.images.get(handle)
    raise ImageError(
        "an image block holds no image that can be sent",
        value=sorted(block),
        limit="base64, url or file_id",
        remedy="Encode the picture: {'type': 'image', 'base64': ..., 'mime_type': 'image/png'}.",
    )


def _from_url(url: str, session: VisionSession, rules: ImageRules) -> tuple[str, LoadedImage]:
    if not url.startswith(("data:", "http://", "https://")):
        # A message may come from anyone: it must not name a file of this machine.
        raise ImageError("messages cannot refer to local files", value=url[:60], limit="data:, http:, https:")
    return session.image(url, lambda: rules.load(url), origin="data URL" if url[:5] == "data:" else url)


def _decode(data: str) -> bytes:
    try:
        return base64.b64decode("".join(data.split()), validate=True)  # mail programs break the lines
    except (binascii.Error, ValueError) as error:
        raise ImageError(f"the base64 text of an image is damaged: {error}", value=data[:40]) from error


def _region(block: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The data of a region block; None if it is none."""
    inner = block.get("value", {}) if block["type"] == "non_standard" else block
    return inner if isinstance(inner, Mapping) and inner.get("type") == "region" else None


def _kind(block: Mapping[str, Any]) -> str:
    inner = block.get("value")
    return str(inner.get("type") if isinstance(inner, Mapping) else block["type"])
