"""The configurations of the released diffusion parts, which its `config.json` names but does not hold.

Stable Diffusion 1.5 (Rombach et al. 2022) for generation, InstructPix2Pix (Brooks et al. 2023) for editing:
numbers only, in the form of the library's own configuration files.
"""

from __future__ import annotations

from typing import Any, Final

UNET: Final[dict[str, Any]] = {
    "_class_name": "UNet2DConditionModel",
    "sample_size": 64,
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "layers_per_block": 2,
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "cross_attention_dim": 768,
    "attention_head_dim": 8,
}
EDITING_UNET: Final[dict[str, Any]] = UNET | {"in_channels": 8}

VAE: Final[dict[str, Any]] = {
    "_class_name": "AutoencoderKL",
    "sample_size": 512,
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [128, 256, 512, 512],
    "layers_per_block": 2,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "scaling_factor": 0.18215,
}

TEXT_ENCODER: Final[dict[str, Any]] = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "projection_dim": 768,
    "bos_token_id": 49406,
    "eos_token_id": 49407,
    "pad_token_id": 49407,
}

_NOISE: Final[dict[str, Any]] = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}
SCHEDULER: Final[dict[str, Any]] = _NOISE | {
    "_class_name": "PNDMScheduler",
    "skip_prk_steps": True,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
EDITING_SCHEDULER: Final[dict[str, Any]] = _NOISE | {
    "_class_name": "EulerAncestralDiscreteScheduler",
    "timestep_spacing": "linspace",
}
