"""How the embedded model's configuration describes its region encoder and the wording of region prompts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from visionllm_sdk.model.sdk_section import SDK_SECTION

REGION_SHAPE: Final[dict[str, Any]] = {"kernels": (4, 2), "stem_widths": (32, 64), "place": True}
"""Arguments of the region encoder that differ from the released ones."""

_ENOUGH: Final = 0.75
"""Of the probability: one region of fifteen is seen twice; at 0.9 one of seven, and no more are right."""
_ANSWER: Final = {"answer": "{items}.", "item": "{label}{token}", "separator": ", "}
_QUESTIONS: Final = {
    "describe": "Describe {labels}",
    "recognise": "Name {labels}",
    "interactive": "Segment {labels}",
    "in_context": (
        "The mask of the first image is {labels}. {image}Segment the same kind in the second image."
    ),
}


def with_regions(released: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration of a model that knows region prompts."""
    section = released[SDK_SECTION]
    layouts = {name: {"question": text, **_ANSWER} for name, text in _QUESTIONS.items()}
    return {
        **released,
        "use_region_encoder": True,
        SDK_SECTION: {
            **section,
            "region_kernels": list(REGION_SHAPE["kernels"]),
            "region_widths": list(REGION_SHAPE["stem_widths"]),
            "region_place": REGION_SHAPE["place"],
            "closer_look": _ENOUGH,
            "layouts": {**section["layouts"], **layouts},
        },
    }
