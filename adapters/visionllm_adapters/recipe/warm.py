"""Weights from one stage to the next, and from a finished model back into training.

A shipped checkpoint holds no training aids (stand-in labels, symbol encoder, attribute heads). They lie
beside the recipe, so that training goes on from the shipped model without the runs that made it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from visionllm_sdk.errors import CheckpointError

State = dict[str, Tensor]
AIDS: Final = Path(__file__).parent / "aids.safetensors"
_AID_NAMES: Final = (
    "names",
    "dense",
    "heads",
    "symbols",
    "region_symbols",
    "reader",
    "scene_tokens",
    "edit_tokens",
)
_SHIPPED_UNDER: Final = {
    "patch2query": "gdino.patch2query.",
    "projection_llava": "unipose.projection_llava.",
    "projection_kpt_llava": "unipose.projection_kpt_llava.",
}
"""Where a module's weights lie in the shipped checkpoint, if not under its own name."""


def saved_module(checkpoint: Path, name: str) -> State:
    """State of one module of a stage's `last.pt`.

    Raises:
        CheckpointError: the file is absent or holds no such module.
    """
    modules: Mapping[str, State] = _saved(checkpoint)["modules"]
    if name not in modules:
        raise CheckpointError(
            f"{checkpoint} holds no module {name!r}", limit=", ".join(modules), remedy="Name the right stage."
        )
    return dict(modules[name])


def saved_extra(checkpoint: Path) -> dict[str, Any]:
    """What a stage's `last.pt` notes beside weights.

    Raises:
        CheckpointError: the file is absent.
    """
    return dict(_saved(checkpoint)["extra"])


def _saved(checkpoint: Path) -> dict[str, Any]:
    if not checkpoint.is_file():
        raise CheckpointError(
            "an earlier training stage has left no checkpoint",
            value=str(checkpoint),
            remedy="Run that stage first.",
        )
    return dict(torch.load(checkpoint, weights_only=True))


def part(state: Mapping[str, Tensor], prefix: str) -> State:
    """The entries under `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def prefixed(prefix: str, state: Mapping[str, Tensor]) -> State:
    """The entries with `prefix` in front."""
    return {prefix + name: value for name, value in state.items()}


def save_aids(aids: Mapping[str, Mapping[str, Tensor]], path: Path = AIDS) -> None:
    """Write the training aids in half precision; integers stay as they are."""
    tensors = {
        key: value for name, state in aids.items() for key, value in prefixed(f"{name}.", state).items()
    }
    half = {key: v.half() if v.is_floating_point() else v for key, v in tensors.items()}
    save_file({key: value.contiguous() for key, value in half.items()}, path)


def shipped_part(folder: Path, prefix: str) -> State:
    """Weights of a checkpoint in the released layout that lie under `prefix`, without it, in fp32."""
    return {key: value.float() for key, value in part(_shipped(folder), prefix).items()}


def _shipped(folder: Path) -> State:
    state: State = {}
    for path in sorted(folder.glob("*.safetensors")):
        state |= load_file(path)
    return state


def load_aids(path: Path = AIDS) -> dict[str, State]:
    """The training aids that `save_aids` wrote, by module."""
    tensors = load_file(path)
    return {name: state for name in _AID_NAMES if (state := part(tensors, f"{name}."))}


def warm_start(
    folder: Path, *, aids: Path = AIDS, optional: Mapping[str, nn.Module] | None = None, **modules: nn.Module
) -> None:
    """Load modules, by name, from a shipped checkpoint and the training aids.

    Args:
        folder: checkpoint in the released layout.
        aids: file of `save_aids`.
        optional: modules that keep their random weights where the checkpoint lacks theirs; of a decoder only
            some parts may be wanted.
        modules: `llm`, `vis_encoder`, `vl_bridge`, `emb_embeddings_det`, `gdino`, `patch2query`, or an aid.

    Raises:
        CheckpointError: a module has no weights in either place.
    """
    shipped = _shipped(folder)
    extra = load_file(aids)
    for name, module in modules.items():
        source = extra if name in _AID_NAMES else shipped
        state = part(source, _SHIPPED_UNDER.get(name, f"{name}."))
        if not state:
            raise CheckpointError(
                f"no weights of {name!r} to start from",
                value=str(folder),
                remedy="Point --warm to a whole checkpoint.",
            )
        module.load_state_dict(state)
    for name, module in (optional or {}).items():
        source = extra if name in _AID_NAMES else shipped
        state = part(source, _SHIPPED_UNDER.get(name, f"{name}."))
        wanted = module.state_dict()
        if wanted.keys() <= state.keys():
            module.load_state_dict({key: state[key] for key in wanted})
