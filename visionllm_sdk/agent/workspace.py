"""What the tools and the chat models of one loaded model share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from visionllm_sdk.agent.constrain import Vocabulary
from visionllm_sdk.agent.sessions import Sessions, VisionSession
from visionllm_sdk.model.conversation import conversation_format
from visionllm_sdk.skills.gathering import Gatherer

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

__all__ = ["Workspace"]


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

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """What the checkpoint's tokens write."""
        model = self.vlm.engine.model
        ends = conversation_format(model.config.conversation).stop_tokens
        stops = [model.tokenizer.control_id(text) for text in ends if model.tokenizer.has_control(text)]
        return Vocabulary(model.tokenizer, stop_ids=stops)

    def session(self) -> VisionSession:
        """The session of the graph thread that runs now, or the one of everything outside of graphs."""
        return self.sessions.of(current_thread())

    async def together(self, kind: str, item: Any, run: Callable[[Sequence[Any]], Sequence[Any]]) -> Any:
        """The outcome of one item, computed together with items of its kind that wait at the same time."""
        return await self._gatherer.submit(kind, item, run)


def current_thread() -> str | None:
    """Name of the graph thread whose node is running, None outside of graphs."""
    from langchain_core.runnables.config import var_child_runnable_config

    return thread_of(var_child_runnable_config.get())


def thread_of(config: Any) -> str | None:
    """The thread that a runnable's configuration names."""
    name = ((config or {}).get("configurable") or {}).get("thread_id")
    return None if name is None else str(name)
