"""The model in the LangChain world: a chat model, its skills as tools, and an agent that sees.

Importing this package imports nothing else; the names below are imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from visionllm_sdk.extras import import_extra

if TYPE_CHECKING:
    from visionllm_sdk.agent.chat import ChatVisionLLM
    from visionllm_sdk.agent.sessions import Sessions, VisionSession
    from visionllm_sdk.agent.tools import VisionTool, tools_of
    from visionllm_sdk.agent.vision_agent import VisionAgent
    from visionllm_sdk.agent.workspace import Workspace

__all__ = ["ChatVisionLLM", "Sessions", "VisionAgent", "VisionSession", "VisionTool", "Workspace", "tools_of"]

_HOME = {
    "ChatVisionLLM": "chat",
    "Sessions": "sessions",
    "VisionAgent": "vision_agent",
    "VisionSession": "sessions",
    "VisionTool": "tools",
    "Workspace": "workspace",
    "tools_of": "tools",
}
_NEEDED = ("langchain_core", "langgraph", "langchain")


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for package in _NEEDED:
        import_extra(package, extra="agent")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
