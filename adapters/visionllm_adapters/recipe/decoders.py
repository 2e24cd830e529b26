"""Which decoders the shipped checkpoint has: their part of `config.json`, and their weights.

A decoder is shipped once its stage has left a checkpoint and the language model has learnt to speak to it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from visionllm_adapters.recipe.sources import Sources
from visionllm_adapters.recipe.train_detector import DETECTOR
from visionllm_adapters.recipe.train_diffusion import LLM_WIDTH, decoder_for
from visionllm_adapters.recipe.train_pose import POSE
from visionllm_adapters.recipe.warm import State, part, prefixed
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


Maker = Callable[[Sources, State], Shipped | None]
"""From the stages' checkpoints and the weights of the joint stage."""


def shipped_decoders(sources: Sources, joint: State) -> list[Shipped]:
    """The decoders that are ready to ship.

    Args:
        sources: the stages' checkpoints.
        joint: weights of the joint stage's student.
    """
    return [one for maker in MAKERS if (one := maker(sources, joint)) is not None]


def _detector(sources: Sources, joint: State) -> Shipped:
    weights = sources.decoder("detector", "detector")
    return Shipped(
        tool="detect",
        section={"use_gdino": True, "gdino_config": dict(DETECTOR)},
        weights={**weights, **_spoken(joint, "patch2query")},
        questions={"[DET]": "Detect {labels}", "[SEG]": "Segment {labels}", "[GRD]": "Find {labels}"},
        tables=_table(joint, "det"),
    )


def _pose(sources: Sources, joint: State) -> Shipped | None:
    spoken = _spoken(joint, "projection_llava", "projection_kpt_llava")
    if not spoken or not sources.has("pose"):
        return None
    return Shipped(
        tool="pose",
        section={"use_unipose": True, "unipose_config": dict(POSE)},
        weights={**sources.decoder("pose", "pose"), **spoken},
        questions={"[POSE]": "with the keypoints {labels}"},
        tables=_table(joint, "pose"),
    )


def _generation(sources: Sources, joint: State) -> Shipped | None:
    return _drawing(sources, joint, tool="generate", stage="generation", name="sd", table="gen")


def _editing(sources: Sources, joint: State) -> Shipped | None:
    return _drawing(sources, joint, tool="edit", stage="editing", name="ip2p", table="edit")


def _drawing(
    sources: Sources, joint: State, *, tool: str, stage: str, name: str, table: str
) -> Shipped | None:
    """A diffusion decoder: the averaged denoiser of its own stage, the mapper of the joint one."""
    spoken, queries = part(joint, f"{name}."), _table(joint, table)
    if not sources.has(stage) or not spoken or not queries:
        return None
    edits = name == "ip2p"
    section = sources.section(stage, embedded_section(LLM_WIDTH, editing=edits))
    return Shipped(
        tool=tool,
        section={f"use_{name}": True, f"{name}_config": section},
        weights={
            **spoken,
            **prefixed("sd_unet.", sources.decoder(stage, "ema_unet")),
            **prefixed("sd_vae.", decoder_for(edits).sd_vae.state_dict()),
        },
        questions={},
        tables=queries,
    )


MAKERS: Final[tuple[Maker, ...]] = (_detector, _pose, _generation, _editing)


def _spoken(joint: State, *names: str) -> State:
    """Projections of super-links, which the joint stage trains."""
    return {
        key: value for name in names for key, value in prefixed(f"{name}.", part(joint, f"{name}.")).items()
    }


def _table(joint: State, name: str) -> State:
    key = f"model.emb_embeddings_{name}.weight"
    return {name: joint[key]} if key in joint else {}
