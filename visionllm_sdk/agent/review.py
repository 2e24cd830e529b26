"""Calls that a person changed before they ran: what ran stands in the tool message, not in the call.

LangChain's `HumanInTheLoopMiddleware` leaves the model's call as it was, puts what ran before the report of
the tool, and tells the model not to call again. A small model would repeat all of that; here it is read.
"""

from __future__ import annotations

import json
import re
from typing import Final

from langchain_core.messages.tool import ToolCall

__all__ = ["as_run"]

_CHANGED: Final = re.compile(
    r"\A.{0,4000}?Executed instead: (?P<name>\S{1,200}) with arguments (?P<arguments>\{.{0,20000}?\})\."
    r"(?:\s+Tool response:\s*|\s*\Z)",
    re.DOTALL,
)


def as_run(call: ToolCall, text: str) -> tuple[ToolCall, str]:
    """The call that ran, and what its tool reported.

    Args:
        call: as the model wrote it.
        text: of the tool message that answers it.

    Returns:
        Both as they are where nobody changed the call.
    """
    changed = _CHANGED.match(text)
    if changed is None:
        return call, text
    try:
        arguments = json.loads(changed["arguments"])
    except json.JSONDecodeError:  # a tool that happens to write such words
        return call, text
    return {**call, "name": changed["name"], "args": arguments}, text[changed.end() :]
