"""Jobs of replies: run together, or one by one as events; and messages in chunks."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from visionllm_sdk import generation
from visionllm_sdk.agent.replies import Replier
from visionllm_sdk.agent.requests import Job, Outcome
from visionllm_sdk.agent.workspace import Workspace
from visionllm_sdk.errors import VisionLLMError
from visionllm_sdk.generation import CancelToken

__all__ = ["Answered", "Deadline", "Stripped", "answer", "job_events", "last_chunks"]

T = TypeVar("T")
Answered: TypeAlias = AIMessage | VisionLLMError
"""The message that answers a dialogue, or why there is none."""


class Deadline(CancelToken):
    """Stops a request after a while, or when it is told to."""

    def __init__(self, seconds: float | None) -> None:
        super().__init__()
        self._end = None if seconds is None else time.monotonic() + seconds

    @property
    def cancelled(self) -> bool:
        """Whether the request is to stop."""
        late = self._end is not None and time.monotonic() > self._end
        return late or super().cancelled


def answer(makers: Sequence[Callable[[], Replier]], workspace: Workspace) -> list[Answered]:
    """The messages of several dialogues: their images are seen, and their replies written, together.

    What is wrong with one dialogue - an image that cannot be read, a time limit - is its own outcome, and
    costs the others nothing.
    """
    engine = workspace.vlm.engine
    with engine.turn():
        repliers = [_tried(make) for make in makers]
        images = [image for one in repliers if isinstance(one, Replier) for image in one.dialogue.images]
        if images:
            engine.see(images)
        outcomes: list[Outcome | VisionLLMError] = [
            _tried(one.start) if isinstance(one, Replier) else one for one in repliers
        ]
        while jobs := {place: one for place, one in enumerate(outcomes) if isinstance(one, Job)}:
            replies = engine.generator.generate([job.request for job in jobs.values()])
            for (place, job), reply in zip(jobs.items(), replies, strict=True):
                outcomes[place] = _tried(partial(job.finish, reply))
    return [outcome for outcome in outcomes if not isinstance(outcome, Job)]


def _tried(step: Callable[[], T]) -> T | VisionLLMError:
    try:
        return step()
    except VisionLLMError as error:
        return error


def job_events(job: Job, workspace: Workspace) -> Iterator[generation.Event]:
    """The events of one job; others may use the model between two of them."""
    events = workspace.vlm.engine.generator.stream([job.request])

    def further() -> generation.Event | None:
        with workspace.vlm.engine.turn():
            return next(events, None)

    while (event := workspace.run(further)) is not None:
        yield event


class Stripped:
    """Text that comes bit by bit, without the blanks at its ends.

    Attributes:
        any: whether anything has been passed on.
    """

    def __init__(self) -> None:
        self.any = False
        self._blanks = ""

    def add(self, text: str) -> str:
        """What can be passed on now."""
        text = self._blanks + text
        visible = text.rstrip()
        self._blanks = text[len(visible) :]
        passed = visible if self.any else visible.lstrip()
        self.any = self.any or bool(passed)
        return passed


def last_chunks(message: AIMessage, *, shown: bool) -> Iterator[ChatGenerationChunk]:
    """What of a message has not been streamed: its text if none was shown, its calls, its metadata."""
    if message.content and not shown:
        yield ChatGenerationChunk(message=AIMessageChunk(content=message.content))
    calls = [
        tool_call_chunk(
            name=call["name"], args=json.dumps(call["args"], ensure_ascii=False), id=call["id"], index=number
        )
        for number, call in enumerate(message.tool_calls)
    ]
    yield ChatGenerationChunk(
        message=AIMessageChunk(
            content="",
            tool_call_chunks=calls,
            usage_metadata=message.usage_metadata,
            response_metadata=message.response_metadata,
            chunk_position="last",
        )
    )
