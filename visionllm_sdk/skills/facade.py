"""`VisionLLM`: the model with one typed method per skill.

The methods stand in groups: `finding`, `posing`, `regions`, `drawing` (forced routing) and `speaking` (words
and free routing). All hand their work to one `engine`, which runs the model and its routed tools.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Self, Unpack

from visionllm_sdk.skills.adapting import AdapterSkills
from visionllm_sdk.skills.agents import ForAgents
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.converting import readable_folder
from visionllm_sdk.skills.drawing import DrawingSkills
from visionllm_sdk.skills.engine import SKILL_TOKENS, Engine
from visionllm_sdk.skills.finding import FindingSkills
from visionllm_sdk.skills.loading import EMBEDDED, LoadingSettings, checkpoint_folder, placement
from visionllm_sdk.skills.posing import PoseSkills
from visionllm_sdk.skills.regions import RegionSkills
from visionllm_sdk.skills.speaking import SpeakingSkills

if TYPE_CHECKING:
    import torch

    from visionllm_sdk.model.assembly import Model
    from visionllm_sdk.model.memory import MemoryReport


class VisionLLM(
    FindingSkills, PoseSkills, RegionSkills, DrawingSkills, SpeakingSkills, AdapterSkills, ForAgents
):
    """An image and a sentence in, typed results out.

    Wherever a method takes an image it also takes a list of images and then returns a list: all go through
    the model together. Labels, expressions and questions may then be one for all images, or a list with one
    for each. Every method has an asynchronous twin with an ``a`` in front of its name.

    Args:
        model: a loaded checkpoint; see :meth:`from_pretrained`.
        rules: which images are accepted.
        name: of the checkpoint, for logs and metadata.
    """

    def __init__(self, model: Model, *, rules: ImageRules | None = None, name: str = "unnamed") -> None:
        engine = Engine(model, name=name)
        super().__init__(engine, replace(rules or ImageRules(), handles=engine.pictures.handles))
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        tools: Sequence[str] | None = None,
        rules: ImageRules | None = None,
        **settings: Unpack[LoadingSettings],
    ) -> Self:
        """Load a checkpoint. Pickled weights are converted to safetensors once, in the local cache.

        Args:
            name_or_path: folder, or hub name if there is no such folder; None is the embedded model.
            device: ``"cpu"`` if not given.
            dtype: number format, such as ``"float32"``. None takes bfloat16; on the CPU float32, inside of
                which conv nets, and the embedded model's decoders, multiply in bfloat16 where the processor
                has instructions for it.
            tools: names of the routed tools to load; None takes all that the checkpoint has.
            rules: which images are accepted.
            settings: see :class:`~visionllm_sdk.skills.loading.LoadingSettings`.

        Raises:
            CheckpointError: no such checkpoint, or one that is incomplete, damaged or does not fit.
            ConfigError: its config.json cannot be used, or no such device or number format.
            ToolError: a tool that is unknown or that the checkpoint does not have.
            MissingExtraError: ``quantization`` without its library.
        """
        from visionllm_sdk.model.assembly import load_model
        from visionllm_sdk.registry import discover_tools

        place = placement(device, dtype, settings)
        model = load_model(
            readable_folder(checkpoint_folder(name_or_path)),
            registry=discover_tools(),
            tools=tools,
            placement=place,
            lazy=True,
            check=settings.get("check", True),
        )
        return cls(model, rules=rules, name=os.fspath(name_or_path or EMBEDDED))

    def memory(self) -> MemoryReport:
        """What each part takes in memory, and where; ``print`` shows a table."""
        return self.engine.model.memory()

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the typed methods that this checkpoint carries out, beside those of words alone."""
        routed = [name for name, token in SKILL_TOKENS.items() if token in self.engine.routing_tokens]
        return (*routed, *(self.region_skills if self.engine.model.core.region_encoder is not None else ()))
