"""Requests of two stages: look at something, and call somebody else's tool.

"Count the circles, then send an e-mail with the number": a small model was never taught to plan. It reads the
part about the image alone, as it was trained to, and the tool is called when that is answered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from visionllm_sdk.agent.functions import Function, speaks_of

__all__ = ["Stages", "stages_of"]

_BOUNDARY: Final = re.compile(r"[.;!?]\s+|,?\s+(?:and\s+then|then|and)\s+|,\s+", re.IGNORECASE)
_POLITE: Final = re.compile(
    r"(?:please|first|now|ok|okay|can you|could you|would you|will you|i want you to|i need you to)[,\s]+",
    re.IGNORECASE,
)
_LOOKING: Final = re.compile(
    r"(?:find|detect|locate|count|segment|mask|outline|describe|caption|look|point|show|see|check|identify|"
    r"recogni[sz]e|estimate|tell me|say|how many|what|where|which|who|is|are|does|do)\b",
    re.IGNORECASE,
)


_STARTING: Final = re.compile(
    r"(?:find|detect|locate|count|segment|outline|describe|caption|identify|how many)\b", re.IGNORECASE
)
"""What begins a part about the image behind one about a tool, where other words may still be the tool's."""


@dataclass(frozen=True, kw_only=True)
class Stages:
    """A request in two parts.

    Attributes:
        look: what is to be done with the image.
        then: what speaks of the tool.
        refers: `then` stands behind `look`, and may refer to what was found.
    """

    look: str
    then: str
    refers: bool


def stages_of(request: str, function: Function) -> Stages | None:
    """The two stages of a request about an image; None if it has one.

    Args:
        request: what the user said.
        function: the tool of which it speaks.
    """
    found = None
    for boundary in _BOUNDARY.finditer(request):
        head, tail = request[: boundary.start()], request[boundary.end() :]
        before, after = speaks_of(head, function), speaks_of(tail, function)
        if before and not after and _STARTING.match(tail):
            return Stages(look=tail, then=head, refers=False)
        if after and not before and _LOOKING.match(_POLITE.sub("", head.strip())):
            found = Stages(look=head, then=tail, refers=True)
    return found
