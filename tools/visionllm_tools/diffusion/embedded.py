"""Numbers of the small decoders that are trained from scratch on scenes: released form, extra fields named.

The choices, and why:

- A fixed Haar transform instead of a learned autoencoder: nothing to train and nothing lost. Two levels turn
  64 x 64 pixels into 16 x 16 positions of 48 channels, so that the denoiser works on few positions.
- Gains bring the coarse image (standard deviation 2.7 on plain scenes) near 1 and raise the details (0.2 and
  0.08), which alone carry edges, without whitening them fully: their errors are seen less.
- Flow matching (a straight line from picture to noise): its paths are nearly straight, so that a multistep
  solver needs few steps.
- A denoiser that reads its conditioning as a map over the picture and predicts the picture in layers, see
  `GridUNet`: places and shapes are learnt much later without.
- Editing lays colours of the input image over it, and exchanges one for another: removing and recolouring are
  exact where the right ones are found.
- Editing takes one step: words and input image leave nothing to chance, and the first guess, the mean of all
  that may be meant, is the nearest to it.
- No text encoder: the conditioning for guidance is all zeros, and the caption loss is absent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from visionllm_tools.diffusion.config import SECTION

PICTURE_SIDE: Final = 64
_LEVELS: Final = 2
_CHANNELS: Final = 3 * 4**_LEVELS
_GAINS: Final = [0.375, 1.5, 2.5]


def embedded_section(
    llm_hidden_size: int,
    *,
    editing: bool = False,
    widths: Sequence[int] = (64, 96, 128),
    condition: int = 96,
    queries: int = 64,
    side: int = PICTURE_SIDE,
) -> dict[str, Any]:
    """The `sd_config` (or `ip2p_config`) of a decoder to be trained from scratch.

    Args:
        llm_hidden_size: width of the language model.
        editing: the denoiser also reads the input image's latent.
        widths: channels of the denoiser's levels, multiples of 32; every level halves the resolution.
        condition: channels of the conditioning.
        queries: conditioning tokens, a square number: a map over the picture.
        side: side of the pictures in pixels, a multiple of 4.
    """
    unet = {
        "_class_name": "GridUNet",
        "sample_size": side // 2**_LEVELS,
        "in_channels": _CHANNELS * (2 if editing else 1),
        "out_channels": _CHANNELS,
        "block_out_channels": list(widths),
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D"] * len(widths),
        "up_block_types": ["UpBlock2D"] * len(widths),
        "cross_attention_dim": condition,
        "attention_head_dim": 4,
        "layers": {"levels": _LEVELS, "gains": list(_GAINS)},
    }
    scheduler = {
        "_class_name": "UniPCMultistepScheduler",
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
    }
    return {
        "llm_hidden_size": llm_hidden_size,
        "sd_hidden_size": condition,
        "num_queries": queries,
        "num_encoder_layers": 1,
        "num_decoder_layers": 1,
        "cfg_drop_rate": 0.05,
        "cfg_scale": 1.0,
        SECTION: {
            "unet": unet,
            "vae": {"_class_name": "HaarVAE", "levels": _LEVELS, "gains": list(_GAINS)},
            "text_encoder": None,
            "scheduler": scheduler,
            "steps": 1 if editing else 4,
            "image_guidance": 1.5,
            "fixed_size": True,
            "keep_threshold": 0.04 if editing else None,
        },
    }
