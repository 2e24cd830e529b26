"""Which decoders the shipped checkpoint has: their part of `config.json`, and their weights.

A decoder is shipped once its stage has left a checkpoint and the language model has learnt to speak to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from visionllm_adapters.recipe.train_detector import DETECTOR
from visionllm_adapters.recipe.train_diffusion import LLM_WIDTH, decoder_for
from visionllm_adapters.recipe.train_pose import POSE
from visionllm_adapters.recipe.warm import State, part, prefixed, saved_module
from visionllm_tools.diffusion.embedded import embedded_section


@dataclass(frozen=True, kw_only=True)
class Shipped:
    """One decoder.

    Attributes:
        tool: name of the routed tool that owns it.
        section: its entries of `config.json`.
        weights: by module names of the tool's decoder.
        questions: how forced routing asks, by routing token, in words that training used.
        tables: trained query tables by name, (E, C) each.
    """

    tool: str
    section: Mapping[str, Any]
    weights: State
    questions: Mapping[str, str]
    tables: State = field(default_factory=dict)


Source = Callable[[Path, State], Shipped | None]
"""From the folder of all runs and the weights of the joint stage."""


def shipped_decoders(runs: Path, joint: State) -> list[Shipped]:
    """The decoders that are ready to ship.

    Args:
        runs: folder of all stages.
        joint: weights of the joint stage's student.
    """
    return [one for source in SOURCES if (one := source(runs, joint)) is not None]


def _detector(runs: Path, joint: State) -> Shipped:
    weights = saved_module(runs / "detector" / "last.pt", "detector")
    return Shipped(
        tool="detect",
        section={"use_gdino": True, "gdino_config": dict(DETECTOR)},
        weights={**weights, **_spoken(joint, "patch2query")},
        questions={"[DET]": "Detect {labels}", "[SEG]": "Segment {labels}", "[GRD]": "Find {labels}"},
        tables=_table(joint, "det"),
    )


def _pose(runs: Path, joint: State) -> Shipped | None:
    checkpoint = runs / "pose" / "last.pt"
    spoken = _spoken(joint, "projection_llava", "projection_kpt_llava")
    if not spoken or not checkpoint.is_file():
        return None
    return Shipped(
        tool="pose",
        section={"use_unipose": True, "unipose_config": dict(POSE)},
        weights={**saved_module(checkpoint, "pose"), **spoken},
        questions={"[POSE]": "with the keypoints {labels}"},
        tables=_table(joint, "pose"),
    )


def _generation(runs: Path, joint: State) -> Shipped | None:
    return _drawing(runs, joint, tool="generate", stage="generation", name="sd", table="gen")


def _editing(runs: Path, joint: State) -> Shipped | None:
    return _drawing(runs, joint, tool="edit", stage="editing", name="ip2p", table="edit")


def _drawing(runs: Path, joint: State, *, tool: str, stage: str, name: str, table: str) -> Shipped | None:
    """A diffusion decoder: the averaged denoiser of its own stage, the mapper of the joint one."""
    checkpoint, spoken, queries = runs / stage / "last.pt", part(joint, f"{name}."), _table(joint, table)
    if not checkpoint.is_file() or not spoken or not queries:
        return None
    edits = name == "ip2p"
    return Shipped(
        tool=tool,
        section={f"use_{name}": True, f"{name}_config": embedded_section(LLM_WIDTH, editing=edits)},
        weights={
            **spoken,
            **prefixed("sd_unet.", saved_module(checkpoint, "ema_unet")),
            **prefixed("sd_vae.", decoder_for(edits).sd_vae.state_dict()),
        },
        questions={},
        tables=queries,
    )


SOURCES: Final[tuple[Source, ...]] = (_detector, _pose, _generation, _editing)


def _spoken(joint: State, *names: str) -> State:
    """Projections of super-links, which the joint stage trains."""
    return {
        key: value for name in names for key, value in prefixed(f"{name}.", part(joint, f"{name}.")).items()
    }


def _table(joint: State, name: str) -> State:
    key = f"model.emb_embeddings_{name}.weight"
    return {name: joint[key]} if key in joint else {}
