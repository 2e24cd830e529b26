"""Which parameters learn: low-rank updates by PEFT, and whole tensors elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import nn

from visionllm_adapters.library import peft_library
from visionllm_adapters.places import trained_keys
from visionllm_adapters.training.settings import LANGUAGE_LAYERS, FinetuneSettings
from visionllm_sdk.model.assembly import Model
from visionllm_sdk.model.core import TABLE_PREFIX
from visionllm_tools.detection.tool import DetectionTool

NAME: Final = "default"
"""What PEFT calls the adapter while it learns; it expects this name in a folder that it loads."""
_PROJECTORS: Final = (
    "patch2query", "kpt_patch2query", "obj_patch2query", "emb_proj", "llm2sd_mapper", "llm2sd_mapper_queries",
)  # fmt: skip
_FROZEN: Final = ("sd_vae", "sd_text_encoder")
"""Parts of decoders that no preset trains: they say what a picture or a word is, not what is asked for."""
_BACKBONE: Final = ".backbone."
_DECODER_RATE, _DETECTOR_RATE = 4e-4, 2e-4


@dataclass(frozen=True, kw_only=True)
class Learning:
    """What learns.

    Attributes:
        peft: PEFT's view of the language model.
        whole: other tensors by checkpoint key.
    """

    peft: Any
    whole: dict[str, nn.Parameter]

    def parameters(self) -> dict[str, nn.Parameter]:
        """All that learns, by a name that is the same in every run."""
        lora = {f"lora.{name}": p for name, p in self.peft.named_parameters() if p.requires_grad}
        return {**lora, **self.whole}

    def groups(self, settings: FinetuneSettings) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser; `initial` is the peak rate."""
        rates: dict[float, list[nn.Parameter]] = {}
        for name, parameter in self.parameters().items():
            rates.setdefault(_rate(name, settings), []).append(parameter)
        return [{"params": found, "lr": rate, "initial": rate} for rate, found in sorted(rates.items())]


def _rate(name: str, settings: FinetuneSettings) -> float:
    if _is_projector(name) or name.startswith(("lora.", TABLE_PREFIX, "vl_bridge.", "region_encoder.")):
        return settings.peak
    own = _DETECTOR_RATE if name.startswith(DetectionTool.checkpoint_prefix) else _DECODER_RATE
    rate = own if settings.decoder_rate is None else settings.decoder_rate
    return rate * settings.backbone_factor if _BACKBONE in name else rate


def _is_projector(key: str) -> bool:
    return any(part in _PROJECTORS for part in key.split("."))


def prepare(
    model: Model,
    settings: FinetuneSettings,
    tools: Sequence[str],
    *,
    reads: bool = False,
    regions: bool = False,
) -> Learning:
    """Freeze a model but for what the settings let learn.

    Low-rank updates go into the layers of the language model by a full expression; the embeddings of the
    routing tokens (input and output rows), the super-link queries, projectors, and the preset's parts of
    decoders and bridge learn as they are.

    Args:
        model: is changed.
        settings: say what.
        tools: names of the tools whose skills are taught.
        reads: whether a skill is taught whose words are read off the picture.
        regions: whether a skill is taught that marks regions: their encoder learns with the bridge.

    Raises:
        MissingExtraError: `peft` is not installed.
    """
    model.core.requires_grad_(False)
    for name in tools:
        model.tools[name].decoder.requires_grad_(False)
    tables = {model.registry.by_name(name).table.name for name in tools}
    torch.manual_seed(settings.seed)  # low-rank updates start at random: every process, every run alike
    with peft_library() as peft:
        wrapped = peft.get_peft_model(model.core.llm, _lora_config(peft, model, settings, tools))
    for table in sorted(tables):
        model.core.get_submodule(TABLE_PREFIX + table).requires_grad_(True)
    if settings.chosen.bridge == "always" or (settings.chosen.bridge == "read" and reads):
        model.core.vl_bridge.requires_grad_(True)
        if regions and model.core.region_encoder is not None:
            model.core.region_encoder.requires_grad_(True)
    for name in tools:
        _free(model.tools[name].decoder, settings.chosen.decoder)
    if settings.checkpointing:
        model.core.llm.gradient_checkpointing_enable({"use_reentrant": False})
    return Learning(peft=wrapped, whole=trained_keys(model, tools))


def _lora_config(peft: Any, model: Model, settings: FinetuneSettings, tools: Sequence[str]) -> Any:
    texts = {token.text for name in tools for token in model.registry.by_name(name).tokens}
    rows = sorted(spec.token_id for spec in model.core.plan.by_id.values() if spec.token in texts)
    tied = bool(getattr(model.core.llm.config, "tie_word_embeddings", False))
    named = {"embed_tokens": rows} if tied else {"embed_tokens": rows, "lm_head": rows}
    return peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=LANGUAGE_LAYERS,
        use_dora=settings.dora,
        use_rslora=settings.rslora,
        trainable_token_indices=named if rows else None,
        task_type="CAUSAL_LM",
    )


def _free(decoder: nn.Module, share: str) -> None:
    for name, parameter in decoder.named_parameters():
        if not parameter.is_floating_point():
            continue
        if any(part in _FROZEN for part in name.split(".")):
            parameter.requires_grad_(False)
            continue
        in_backbone = _BACKBONE in f".{name}"
        free = _is_projector(name) or share == "all" or (share == "heads" and not in_backbone)
        parameter.requires_grad_(free)


@torch.no_grad()
def copy_values(parameters: dict[str, nn.Parameter]) -> dict[str, torch.Tensor]:
    """Values on the CPU, for the best so far."""
    return {name: value.detach().cpu().clone() for name, value in parameters.items()}


@torch.no_grad()
def put_values(parameters: dict[str, nn.Parameter], values: dict[str, torch.Tensor]) -> None:
    """Write values back."""
    for name, parameter in parameters.items():
        parameter.copy_(values[name])
