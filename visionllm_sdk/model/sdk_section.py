"""What the released ``config.json`` cannot say: the section ``visionllm_sdk`` of it. Imports no torch."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.model.documents import made_of
from visionllm_sdk.tool import ForcedLayout

SDK_SECTION = "visionllm_sdk"


@dataclass(frozen=True, slots=True, kw_only=True)
class SdkSection:
    """What the released form cannot say. A field left None takes the released family's value.

    Attributes:
        conversation: name of the conversation format, ``vicuna_v1`` or ``internlm2_chat``.
        system_prompt: replaces the format's system text; the empty string leaves it out.
        label_tags: the checkpoint was trained on ``<det>label</det>[DET]``, so labels parse exactly.
        tool_turns: the checkpoint was trained on turns in which a tool reports what it found, so that it can
            put a finding into words.
        legacy_spacing: the tokenizer puts a word-start mark after every control token, as released.
        max_tiles: tiles without the thumbnail.
        max_stretch: most that a grid of tiles may stretch an image, at least 1; images of other shapes get
            margins. None: any, as released.
        max_forced_labels: labels laid out in one forced-routing pass; longer lists are split into groups.
        image_mean, image_std: normalisation of RGB values in 0..1.
        region_kernels: kernel = stride of the two convolutions of the region encoder.
        region_widths: channels of these convolutions.
        region_place: the region encoder adds where a region lies, for vision encoders that do not know.
        closer_look: share of the probability, 0..1, that the best label of a region must have; with less the
            region is looked at once more from nearby. None: never, as released.
        quick_products: matrix products of the decoders' encoders may be computed in bfloat16 where the
            processor does so by itself, unless the caller names a number format: the checkpoint's figures
            were measured so. Other checkpoints compute in the format of their weights.
        query_tables: number of queries of tables beyond the released four.
        routing: table name of routing tokens beyond the released six.
        layouts: forced layouts of this checkpoint, by routing token; they replace the tool's own. Those of
            region prompts go by name: ``interactive``, ``in_context``, ``describe``, ``recognise``.

    Raises:
        ConfigError: a number out of its range.
    """

    conversation: str | None = None
    system_prompt: str | None = None
    label_tags: bool = False
    tool_turns: bool = False
    legacy_spacing: bool = True
    max_tiles: int | None = None
    max_stretch: float | None = None
    max_forced_labels: int = 64
    image_mean: tuple[float, float, float] | None = None
    image_std: tuple[float, float, float] | None = None
    region_kernels: tuple[int, int] = (7, 2)
    region_widths: tuple[int, int] = (64, 256)
    region_place: bool = False
    closer_look: float | None = None
    quick_products: bool = False
    query_tables: Mapping[str, int] = field(default_factory=dict)
    routing: Mapping[str, str] = field(default_factory=dict)
    layouts: Mapping[str, ForcedLayout] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check("max_stretch", self.max_stretch, 1, math.inf, "a number of at least 1")
        # Zero would be never, which None says.
        _check("closer_look", self.closer_look, 1e-6, 1, "a share above 0, up to 1")

    @classmethod
    def from_dict(cls, section: Mapping[str, Any]) -> Self:
        """Read the section.

        Raises:
            ConfigError: an unknown field, a value of a wrong type, or a number out of its range.
        """
        return made_of(cls, section, SDK_SECTION)

    def to_dict(self) -> dict[str, Any]:
        """Only the fields that differ from the defaults, as JSON types."""
        default = type(self)()
        changed = {
            item.name: getattr(self, item.name)
            for item in dataclasses.fields(self)
            if getattr(self, item.name) != getattr(default, item.name)
        }
        if "layouts" in changed:
            changed["layouts"] = {token: dataclasses.asdict(one) for token, one in self.layouts.items()}
        return {name: list(item) if isinstance(item, tuple) else item for name, item in changed.items()}


def _check(name: str, value: object, least: float, most: float, limit: str) -> None:
    """Refuse what is neither None nor a number in the range."""
    if value is None or (isinstance(value, int | float) and least <= value <= most):
        return
    raise ConfigError(
        f"{SDK_SECTION}.{name} is impossible", value=value, limit=limit, remedy="Correct config.json."
    )
