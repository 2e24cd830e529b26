"""Jobs of replies: run together, or one by one as events; and messages in chunks."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Final

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from visionllm_sdk import generation
from visionllm_sdk.agent.replies import Job
from visionllm_sdk.agent.workspace import Workspace
from visionllm_sdk.generation import CancelToken, GeneratedReply

__all__ = ["Deadline", "Stripped", "job_events", "last_chunks", "run_jobs"]

_ROWS_AT_ONCE: Final = 16


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


def run_jobs(jobs: Sequence[Job], workspace: Workspace) -> list[GeneratedReply]:
    """The replies of jobs, as one batch or a few."""
    engine = workspace.vlm.engine
    replies: list[GeneratedReply] = []
    for start in range(0, len(jobs), _ROWS_AT_ONCE):
        requests = [job.request for job in jobs[start : start + _ROWS_AT_ONCE]]
        with engine.turn():
            replies += engine.generator.generate(requests)
    return replies


def job_events(job: Job, workspace: Workspace) -> Iterator[generation.Event]:
    """The events of one job; others may use the model between two of them."""
    engine = workspace.vlm.engine
    events = engine.generator.stream([job.request])
    while True:
        with engine.turn():
            event = next(events, None)
        if event is None:
            return
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
