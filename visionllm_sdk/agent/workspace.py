"""What the tools and the chat models of one loaded model share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar

from visionllm_sdk.agent.constrain import Vocabulary
from visionllm_sdk.agent.sessions import Sessions, VisionSession
from visionllm_sdk.agent.skills import Skill, skills_of
from visionllm_sdk.model.conversation import conversation_format
from visionllm_sdk.skills.gathering import Gatherer

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

__all__ = ["Loaded", "Workspace"]

T = TypeVar("T")
_MOMENT: Final = 0.003
_MOMENTS: Final = 10


class Workspace:
    """One loaded model, its sessions, and the place where requests that wait together become one batch.

    Args:
        vlm: the model.
        sessions: where conversations keep images and super-links; new ones if not given.
    """

    def __init__(self, vlm: VisionLLM, *, sessions: Sessions | None = None) -> None:
        self.vlm = vlm
        self.sessions = sessions or Sessions()
        self._gatherer = Gatherer()
        self._here = 0  # requests that wait or run, of all event loops
        self._talking = 0  # conversations that go on
        self._count = threading.Lock()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="visionllm")

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the checkpoint's tokens write."""
        model = self.vlm.engine.model
        ends = conversation_format(model.config.conversation).stop_tokens
        stops = [model.tokenizer.control_id(text) for text in ends if model.tokenizer.has_control(text)]
        return Vocabulary(model.tokenizer, stop_ids=stops)

    @cached_property
    def skills(self) -> tuple[Skill, ...]:
        """What the checkpoint can do."""
        return tuple(skills_of(self.vlm))

    def session(self) -> VisionSession:
        """The session of the graph thread that runs now, or the one of everything outside of graphs."""
        return self.sessions.of(current_thread())

    def run(self, work: Callable[..., T], *arguments: Any) -> T:
        """Do something with the model in the one thread that is kept for it.

        Every new thread that computes would start a team of helpers of its own, and they would hinder one
        another. Never call this while holding the engine: its thread may wait for it.
        """
        if threading.get_ident() == self._thread:
            return work(*arguments)
        return self._worker.submit(work, *arguments).result()

    @cached_property
    def _thread(self) -> int:
        return self._worker.submit(threading.get_ident).result()

    @contextmanager
    def conversation(self) -> Iterator[None]:
        """The time in which somebody talks to an agent: the others know then for whom a batch may wait."""
        with self._count:
            self._talking += 1
        try:
            yield
        finally:
            with self._count:
                self._talking -= 1

    async def together(self, kind: str, item: Any, run: Callable[[Sequence[Any]], Sequence[Any]]) -> Any:
        """The outcome of one item, computed together with items of its kind that wait at the same time."""
        with self._count:
            self._here += 1
        try:
            await self._wait_for_company()
            return await self._gatherer.submit(kind, item, lambda items: self.run(run, items))
        finally:
            with self._count:
                self._here -= 1

    async def _wait_for_company(self) -> None:
        """Wait until all conversations that go on are here, but not for long: a batch of sixteen costs less
        than one and then fifteen."""
        if self._here > 1 and not self._talking:
            await asyncio.sleep(_MOMENT)  # where there are two there may be more
        for _ in range(_MOMENTS):
            if self._here >= self._talking:
                return
            await asyncio.sleep(_MOMENT)


class Loaded:
    """Models that were loaded by name, each once. Safe to use from several threads.

    Args:
        load: loads a model; it is called with the name, the device and the number format.
    """

    def __init__(self, load: Callable[[str, str | None, str | None], VisionLLM]) -> None:
        self._load = load
        self._workspaces: dict[tuple[str, str | None, str | None], Workspace] = {}
        self._lock = threading.Lock()

    def __contains__(self, key: tuple[str, str | None, str | None]) -> bool:
        return key in self._workspaces

    def __len__(self) -> int:
        return len(self._workspaces)

    def workspace(self, name: str, device: str | None, dtype: str | None) -> Workspace:
        """The workspace of a model, which is loaded if it was not."""
        key = name, device, dtype
        with self._lock:
            if key not in self._workspaces:
                self._workspaces[key] = self._load(*key).workspace
            return self._workspaces[key]


def current_thread() -> str | None:
    """Name of the graph thread whose node is running, None outside of graphs."""
    from langchain_core.runnables.config import var_child_runnable_config

    return thread_of(var_child_runnable_config.get())


def thread_of(config: Any) -> str | None:
    """The thread that a runnable's configuration names."""
    name = ((config or {}).get("configurable") or {}).get("thread_id")
    return None if name is None else str(name)
