"""The diffusion decoder: super-link in, conditioning of a denoiser out (paper section 3.3).

The hidden states at the super-link queries pass a small MLP and a one-layer encoder-decoder transformer with
learned queries; its 77 outputs stand in for the features of a text encoder. Denoiser, autoencoder and text
encoder are the library's.
"""

from __future__ import annotations

from typing import Any, Final, cast

import torch
from torch import Tensor, nn

from visionllm_tools.diffusion.config import DiffusionConfig
from visionllm_tools.diffusion.parts import CaptionEncoder, build_text_encoder, build_unet, build_vae

_PIPELINE_STEP: Final = 8


class DiffusionDecoder(nn.Module):
    """Conditioning, denoiser and autoencoder under the released key names.

    Args:
        config: numbers.
        unet: the denoiser, of the interface of the library's `UNet2DConditionModel`.
        vae: the autoencoder, of the interface of the library's `AutoencoderKL`.
        text_encoder: CLIP text model, if the checkpoint has one.
    """

    def __init__(
        self,
        *,
        config: DiffusionConfig,
        unet: nn.Module,
        vae: nn.Module,
        text_encoder: CaptionEncoder | None = None,
    ) -> None:
        super().__init__()
        width = config.sd_hidden_size
        self.config = config
        self.sd_unet = unet
        self.sd_vae = vae
        self.sd_text_encoder = text_encoder
        self.emb_proj = nn.Sequential(
            nn.Linear(config.llm_hidden_size, width), nn.GELU(), nn.Linear(width, width)
        )
        self.llm2sd_mapper = _mapper(config)
        self.llm2sd_mapper_queries = nn.Parameter(torch.randn(1, config.num_queries, width))

    @property
    def downscale(self) -> int:
        """Pixels of a picture per position of its latent, along one side."""
        return int(2 ** (len(_settings(self.sd_vae).block_out_channels) - 1))

    @property
    def side_step(self) -> int:
        """Sides of pictures are multiples of this: whole positions of the latent, and the library's eight."""
        return max(self.downscale, _PIPELINE_STEP)

    @property
    def native_side(self) -> int:
        """Side in pixels of the pictures that the denoiser was made for."""
        side = _settings(self.sd_unet).sample_size
        return int(side if isinstance(side, int) else side[0]) * self.downscale

    @property
    def scaling(self) -> float:
        """The denoiser sees latents times this."""
        return float(_settings(self.sd_vae).scaling_factor)

    def condition(self, states: Tensor) -> Tensor:
        """Conditioning of pictures.

        Args:
            states: super-link states. (B, G, C)

        Returns:
            (B, Q, d), in place of the text encoder's features.
        """
        tokens = self.emb_proj(states)  # (B, G, d)
        queries = self.llm2sd_mapper_queries.expand(len(states), -1, -1)
        mapped: Tensor = self.llm2sd_mapper(tokens, queries)
        return mapped

    def caption_features(self, ids: Tensor) -> Tensor:
        """CLIP features (B, Q, d) of caption ids (B, Q); only with a text encoder."""
        encoder = cast(CaptionEncoder, self.sd_text_encoder)
        with torch.no_grad():
            features: Tensor = encoder(ids)
        return features

    def null_condition(self) -> Tensor:
        """Conditioning of "anything" for guidance, (1, Q, d): the empty caption's features, or zeros where
        there is no text encoder."""
        queries = self.llm2sd_mapper_queries
        if self.sd_text_encoder is None:
            return torch.zeros_like(queries, requires_grad=False)
        settings = self.sd_text_encoder.config
        ids = torch.full((1, queries.shape[1]), settings.eos_token_id, device=queries.device)
        ids[0, 0] = settings.bos_token_id
        return self.caption_features(ids)

    def encode(self, images: Tensor) -> Any:
        """Distribution over the latents (B, c, h, w) of images (B, 3, H, W) in -1..1, unscaled."""
        encode = cast(Any, self.sd_vae).encode
        with torch.no_grad():
            return encode(images).latent_dist

    def decode(self, latents: Tensor) -> Tensor:
        """Images (B, 3, H, W), about -1..1, of latents as the denoiser sees them."""
        decode = cast(Any, self.sd_vae).decode
        images: Tensor = decode(latents / self.scaling).sample
        return images

    def denoise(self, latents: Tensor, steps: Tensor, condition: Tensor) -> Tensor:
        """The denoiser's prediction (B, c, h, w).

        Args:
            latents: noisy latents, for editing with the input image's latents behind. (B, c or 2 c, h, w)
            steps: time steps. (B,)
            condition: (B, Q, d)
        """
        prediction: Tensor = self.sd_unet(latents, steps, encoder_hidden_states=condition).sample
        return prediction


def build_decoder(config: DiffusionConfig) -> DiffusionDecoder:
    """A decoder with random weights.

    Raises:
        ConfigError: numbers that do not fit together.
        MissingExtraError: the diffusion library is not installed.
    """
    return DiffusionDecoder(
        config=config,
        unet=build_unet(config),
        vae=build_vae(config),
        text_encoder=build_text_encoder(config),
    )


def _settings(part: nn.Module) -> Any:
    return part.config


def _mapper(config: DiffusionConfig) -> nn.Transformer:
    """Pre-norm encoder and decoder with final norms, ReLU, feed-forward four times as wide, no dropout."""
    width = config.sd_hidden_size
    shape: dict[str, Any] = {
        "d_model": width,
        "nhead": config.num_attention_heads,
        "dim_feedforward": 4 * width,
        "dropout": 0.0,
        "batch_first": True,
        "norm_first": True,
    }
    encoder = nn.TransformerEncoder(
        nn.TransformerEncoderLayer(**shape),
        config.num_encoder_layers,
        norm=nn.LayerNorm(width),
        enable_nested_tensor=False,
    )
    decoder = nn.TransformerDecoder(
        nn.TransformerDecoderLayer(**shape), config.num_decoder_layers, norm=nn.LayerNorm(width)
    )
    return nn.Transformer(**shape, custom_encoder=encoder, custom_decoder=decoder)
