"""Names that a language model never learnt are all alike to it: classes have to be told apart first.

Of four new shapes three had super-links with a cosine of 1.00 in the embedded model, which hears "anything
else" in each. Detection alone parted one of them, and mixed up the other two for 170 steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_sdk.tool import ToolRequest
from visionllm_tools.detection.tool import DetectionTool

_APART: Final = 0.63
"""Distance of unit vectors (a cosine of .8) below which two classes are too much alike.

Those that share a word may come near it. Where vectors are equal the distance has a slope, the cosine none.
"""


def likeness(tool: DetectionTool, requests: Iterable[ToolRequest[Any]]) -> Tensor:
    """How much too alike the classes of some requests are to the detector: a mean over pairs, 0 to 0.63. ()

    Args:
        tool: reads the super-links.
        requests: of labelled pictures. Expressions, which may mean one thing in many words, do not count.
    """
    states: dict[str, Tensor] = {}
    for request in requests:
        if request.token in _CLASSES:
            for link in request.links:
                states.setdefault(link.label.casefold(), link.states)
    place = next(tool.decoder.parameters())
    if len(states) < 2:
        return torch.zeros((), device=place.device)
    stacked = torch.stack(list(states.values()))[None].to(place)
    features = F.normalize(tool.decoder.encode_labels(stacked)[0].float(), dim=-1)  # (N, C)
    pairs = torch.triu_indices(len(features), len(features), offset=1)
    gaps = (features[pairs[0]] - features[pairs[1]]).square().sum(-1).add(1e-12).sqrt()
    return (_APART - gaps).clamp_min(0.0).mean()


_CLASSES: Final = frozenset({"[DET]", "[SEG]"})
