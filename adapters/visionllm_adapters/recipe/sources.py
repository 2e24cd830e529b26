"""Where the parts of a checkpoint come from: stages that were run, and for the rest a finished model."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from visionllm_adapters.recipe.train_joint import PARTS
from visionllm_adapters.recipe.warm import (
    State,
    load_aids,
    part,
    prefixed,
    saved_extra,
    saved_module,
)
from visionllm_sdk.model.assembly import Model, load_model
from visionllm_sdk.registry import discover_tools

_TOOLS: Final = {"detector": "detect", "pose": "pose", "generation": "generate", "editing": "edit"}
"""The routed tool that a stage trains the decoder of."""
_SECTIONS: Final = {
    "detector": "gdino_config",
    "pose": "unipose_config",
    "generation": "sd_config",
    "editing": "ip2p_config",
}
_SPOKEN: Final = {
    "detect": ("patch2query.",),
    "pose": ("projection_llava.", "projection_kpt_llava."),
}
_MAPPERS: Final = {"generate": "sd.", "edit": "ip2p."}
_DENOISER: Final = "sd_unet."
_FIXED: Final = ("sd_unet.", "sd_vae.")
_IN_STUDENT: Final = ("vl_bridge.", "region_encoder.")
_IN_MODEL: Final = ("llm.", "emb_embeddings_")


class Sources:
    """Weights by stage.

    Args:
        runs: folder of all stages.
        base: a finished model whose parts stand in for stages that were not run; None: all must have been.
        share: how much of the new weights is taken; the rest is the finished model's. A run that went on
            from there lies near enough for their mean to be better than either (Wortsman et al., 2022).
    """

    def __init__(self, runs: Path, base: Path | None = None, share: float = 1.0) -> None:
        self.runs = runs
        self.base = base
        self.share = share

    def checkpoint(self, stage: str) -> Path:
        """Where a stage leaves its checkpoint."""
        return self.runs / stage / "last.pt"

    def ran(self, stage: str) -> bool:
        """Whether the stage has left a checkpoint."""
        return self.checkpoint(stage).is_file()

    def has(self, stage: str) -> bool:
        """Whether there are weights of the decoder that a stage trains."""
        return self.ran(stage) or (self.base is not None and _TOOLS[stage] in self.finished.tools)

    @cached_property
    def finished(self) -> Model:
        """The finished model, in fp32."""
        assert self.base is not None
        return load_model(self.base, registry=discover_tools())

    def section(self, stage: str, fresh: dict[str, Any]) -> dict[str, Any]:
        """The numbers of a decoder: `fresh` ones if its stage was run, else the finished model's."""
        if self.ran(stage) or self.base is None:
            return fresh
        return dict(self.finished.config.to_released()[_SECTIONS[stage]])

    def decoder(self, stage: str, module: str) -> State:
        """Weights of the decoder that a stage trains: of the whole, or of a drawing decoder's denoiser.

        Raises:
            CheckpointError: there are none.
        """
        ran = self.ran(stage) or self.base is None
        new = saved_module(self.checkpoint(stage), module) if ran else None
        if new is not None and self.share == 1.0:
            return new
        weights = self.finished.tools[_TOOLS[stage]].decoder.state_dict()
        known = part(weights, _DENOISER) if _TOOLS[stage] in _MAPPERS else dict(weights)
        return known if new is None else self._mean(new, known)

    def eyes(self) -> State:
        """Weights of the vision encoder.

        Raises:
            CheckpointError: there are none.
        """
        if self.ran("vision") or self.base is None:
            new = part(saved_module(self.checkpoint("vision"), "eyes"), "vis_encoder.")
            return new if self.share == 1.0 else self._mean(new, self._finished_eyes())
        return self._finished_eyes()

    def student(self) -> State:
        """What the joint stage has taught, by module names of its student.

        Raises:
            CheckpointError: there is nothing.
        """
        last = next((stage for stage in ("mapper", "joint") if self.ran(stage)), None)
        if last is not None or self.base is None:
            taught = taught_weights(self.checkpoint(last or "joint"))
            return taught if self.share == 1.0 else self._mean(taught, self._finished_student())
        known = self._finished_student()
        if self.ran("vision"):  # the bridge was fitted to these eyes
            fitted = part(saved_module(self.checkpoint("vision"), "eyes"), "vl_bridge.")
            known |= prefixed("vl_bridge.", fitted)
        return known

    def aids(self) -> dict[str, State]:
        """Training aids that are not shipped with the model but let training go on from it (`--warm`)."""
        found = {} if self.base is None else load_aids()
        for stage, name, module in (
            ("detector", "names", "names"),
            ("detector", "dense", "dense"),
            ("vision", "heads", "heads"),
            ("generation", "scene_tokens", "ema_tokens"),
            ("editing", "edit_tokens", "ema_tokens"),
        ):
            if self.ran(stage):
                found[name] = self._mean(saved_module(self.checkpoint(stage), module), found.get(name, {}))
        if self.ran("joint"):
            taught = taught_weights(self.checkpoint("joint"))
            for name in ("symbols", "region_symbols", "reader"):
                if weights := part(taught, f"model.{name}."):
                    found[name] = self._mean(weights, found.get(name, {}))
        return found

    def _mean(self, new: State, known: State) -> State:
        """Weights between two runs; what is no number with fractions, or not known, is the new run's."""
        if self.share == 1.0:
            return new
        return {
            name: torch.lerp(known[name].float(), value.float(), self.share)
            if value.is_floating_point() and name in known
            else value
            for name, value in new.items()
        }

    def _finished_eyes(self) -> State:
        return part(self.finished.core.state_dict(), "vis_encoder.")

    def _finished_student(self) -> State:
        model = self.finished
        core = model.core.state_dict()
        known: State = {key: value for key, value in core.items() if key.startswith(_IN_STUDENT)}
        known |= prefixed("model.", {key: value for key, value in core.items() if key.startswith(_IN_MODEL)})
        for name, tool in model.tools.items():
            weights = tool.decoder.state_dict()
            known |= {key: value for key, value in weights.items() if key.startswith(_SPOKEN.get(name, ()))}
            if name in _MAPPERS:
                spoken = {key: value for key, value in weights.items() if not key.startswith(_FIXED)}
                known |= prefixed(_MAPPERS[name], spoken)
        return known


def taught_weights(checkpoint: Path) -> State:
    """What the stages have trained: the student has every part from the start, taught or not."""
    taught = saved_extra(checkpoint).get("taught", ())
    chance = tuple(prefix for name, parts in PARTS.items() if name not in taught for prefix in parts)
    weights = saved_module(checkpoint, "student")
    return {key: value for key, value in weights.items() if not key.startswith(chance)}
