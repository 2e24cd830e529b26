"""The recorded reference: compact here, complete where `VISIONLLM_REFERENCE` names its folder."""

from __future__ import annotations

import json
import lzma
import os
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from visionllm_tools.diffusion.config import EDITING_PARTS, GENERATION_PARTS, SECTION, DiffusionConfig
from visionllm_tools.diffusion.decoder import DiffusionDecoder
from visionllm_tools.diffusion.loss import Draws
from visionllm_tools.diffusion.parts import build_text_encoder, build_unet, build_vae

FULL = os.environ.get("VISIONLLM_REFERENCE")
QUERIES = 8

UNET = {
    "sample_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "layers_per_block": 1,
    "block_out_channels": [32, 64],
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    "cross_attention_dim": 32,
    "attention_head_dim": 8,
}
VAE = {
    "sample_size": 64,
    "block_out_channels": [32, 64],
    "down_block_types": ["DownEncoderBlock2D"] * 2,
    "up_block_types": ["UpDecoderBlock2D"] * 2,
    "latent_channels": 4,
}
TEXT = {
    "vocab_size": 514,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 77,
    "bos_token_id": 512,
    "eos_token_id": 513,
    "pad_token_id": 513,
}


def tiny_section(*, editing: bool) -> dict[str, Any]:
    """The section of the tiny reference model."""
    return {
        "llm_hidden_size": 64,
        "sd_hidden_size": 32,
        "num_embed_tokens": QUERIES,
        "cfg_drop_rate": 0.0,
        SECTION: {"unet": {**UNET, "in_channels": 8 if editing else 4}, "vae": VAE, "text_encoder": TEXT},
    }


class RecordedVAE(nn.Module):
    """Stands in for the library's autoencoder, whose weights are not in the compact reference: the recorded
    posterior of the wanted pictures, then that of the input images."""

    def __init__(self, posterior: Tensor, context: Tensor | None) -> None:
        super().__init__()
        self.config = SimpleNamespace(block_out_channels=(32, 64), scaling_factor=0.18215)
        self.device, self.dtype = posterior.device, posterior.dtype
        self._answers = [posterior, context]
        self._calls = 0

    def encode(self, images: Tensor) -> Any:
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        answer = self._answers[self._calls % 2]
        assert answer is not None
        self._calls += self._answers[1] is not None
        moments = answer if answer.shape[1] == 8 else torch.cat([answer, torch.zeros_like(answer)], 1)
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(moments))


class RecordedUNet(nn.Module):
    """Stands in for the editing denoiser: keeps what it was asked and gives the recorded answers."""

    def __init__(self, answers: list[Tensor]) -> None:
        super().__init__()
        self.config = SimpleNamespace(sample_size=32)
        self.answers = answers
        self.asked: list[tuple[Tensor, Tensor, Tensor]] = []

    def forward(self, latents: Tensor, steps: Tensor, *, encoder_hidden_states: Tensor) -> Any:
        self.asked.append((latents, steps, encoder_hidden_states))
        return SimpleNamespace(sample=self.answers[len(self.asked) - 1])


class Replay(Draws):
    """The recorded draws of one case."""

    def __init__(self, values: dict[str, Tensor], case: str) -> None:
        super().__init__()
        posterior = torch.randn(values["noise"].shape, generator=torch.Generator().manual_seed(77))
        self._normal = [posterior, values["noise"]]
        self._steps = values[f"{case}.steps"]
        self._chance = values["cfgdrop.chance"]

    def normal(self, like: Tensor) -> Tensor:
        drawn = self._normal.pop(0)
        assert drawn.shape == like.shape
        return drawn

    def steps(self, count: int, limit: int) -> Tensor:
        assert (count, limit) == (len(self._steps), 1000)
        return self._steps

    def uniform(self, count: int) -> Tensor:
        return self._chance


@dataclass(frozen=True)
class Reference:
    """A decoder with the reference's weights, and what the original computed.

    `rough` is the tolerance of what the denoiser computes: the compact copy of its weights is rounded.
    """

    decoder: DiffusionDecoder
    values: dict[str, Tensor]
    rough: float


def relative(found: Tensor, wanted: Tensor) -> float:
    """Largest difference as a share of the largest value."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def generation_reference(goldens: Path) -> Reference:
    """The generation decoder of the reference."""
    return _full("sd") if FULL else _compact_generation(goldens / "diffusion")


def editing_reference(goldens: Path) -> Reference:
    """The editing decoder of the reference."""
    return _full("ip2p") if FULL else _compact_editing(goldens / "diffusion")


def _weights(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix("weights."): v for k, v in values.items() if k.startswith("weights.")}


def _compact_generation(folder: Path) -> Reference:
    values = load_file(folder / "sd.safetensors")
    config = DiffusionConfig.from_dict(tiny_section(editing=False), defaults=GENERATION_PARTS)
    unet, text = build_unet(config), build_text_encoder(config)
    decoder = DiffusionDecoder(
        config=config, unet=unet, vae=RecordedVAE(values["posterior"], None), text_encoder=text
    )
    weights = _weights(values) | _unpacked(folder, values, decoder.state_dict())
    missing, unexpected = decoder.load_state_dict(weights, strict=False)
    assert not missing
    assert not unexpected
    values["images"] = torch.zeros(2, 3, 64, 64)
    return Reference(decoder.eval(), values, rough=3e-3)


def _unpacked(folder: Path, values: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    low = np.frombuffer((folder / "sd_unet.low").read_bytes(), np.uint8).astype(np.int32)
    high = np.frombuffer(lzma.decompress((folder / "sd_unet.high.xz").read_bytes()), np.uint8)
    numbers = torch.from_numpy(low + 256 * high.astype(np.int32) - 2048).float()
    weights, start = {}, 0
    for name in sorted(key.removeprefix("scale.") for key in values if key.startswith("scale.")):
        shape = state[name].shape
        rows = numbers[start : start + shape.numel()].view(shape[0], -1)
        weights[name] = (rows * values[f"scale.{name}"][:, None]).view(shape)
        start += shape.numel()
    assert start == len(numbers)
    return weights


def _compact_editing(folder: Path) -> Reference:
    values = load_file(folder / "ip2p.safetensors")
    values["noise"] = load_file(folder / "sd.safetensors")["noise"]
    config = DiffusionConfig.from_dict(tiny_section(editing=True), defaults=EDITING_PARTS)
    text = build_text_encoder(config)
    decoder = DiffusionDecoder(
        config=config,
        unet=RecordedUNet([]),
        vae=RecordedVAE(values["posterior"], values["context"]),
        text_encoder=text,
    )
    missing, unexpected = decoder.load_state_dict(_weights(values), strict=False)
    assert all(name.startswith("sd_text_encoder.") for name in missing)
    assert not unexpected
    values["images"] = values["sources"] = torch.zeros(2, 3, 64, 64)
    return Reference(decoder.eval(), values, rough=1e-5)


def _full(name: str) -> Reference:
    """The complete reference under the names of the compact one."""
    root = Path(FULL or "")
    parts = json.loads((root / "tiny" / "config.json").read_text())["_harness"]["sd_submodels"][
        f"tiny_{name}"
    ]
    defaults = GENERATION_PARTS if name == "sd" else EDITING_PARTS
    section = {**tiny_section(editing=name == "ip2p"), SECTION: parts}
    config = DiffusionConfig.from_dict(section, defaults=defaults)
    decoder = DiffusionDecoder(
        config=config,
        unet=build_unet(config),
        vae=build_vae(config),
        text_encoder=build_text_encoder(config),
    )
    stored = load_file(root / "tiny" / f"tiny_weights_{name}.safetensors")
    decoder.load_state_dict({key.removeprefix(f"{name}."): value for key, value in stored.items()})
    values = load_file(root / "goldens" / f"golden_{name}.safetensors")
    first = int(values["trigger_pos"]) + 1
    queries = slice(first, first + QUERIES)
    values |= {
        "states": values["hidden_states"][:, queries],
        "images": values["output_images"],
        "noise": values["plain.rng.001.randn_like"],
        "cfgdrop.chance": values["cfgdrop.rng.003.rand"],
        "run.latents_in": values["run.rng.000.randn"],
    }
    for case in ("plain", "caption", "cfgdrop"):
        values[f"{case}.steps"] = values[f"{case}.rng.002.randint"]
        values[f"{case}.grad_states"] = values[f"{case}.grad_hidden"][:, queries]
    if name == "ip2p":
        values["sources"] = values["input_images"]
    link = load_file(root / "goldens" / f"golden_generate_{'gen' if name == 'sd' else 'edit'}.safetensors")
    values |= {"link": link["superlink"], "link.mapping_feature": link[f"{name}.mapping_feature"]}
    return Reference(decoder.eval(), values, rough=1e-5)
