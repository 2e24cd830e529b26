from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionllm_tools.diffusion.haar import HaarVAE


@given(levels=st.integers(1, 3), rows=st.integers(1, 3), columns=st.integers(1, 3), seed=st.integers(0, 99))
def test_decoding_inverts_encoding(levels: int, rows: int, columns: int, seed: int) -> None:
    size = 2**levels
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, rows * size, columns * size, generator=generator) * 2 - 1
    vae = HaarVAE(levels=levels, gains=tuple(0.5 + 0.5 * level for level in range(levels + 1)))
    latent = vae.encode(image).latent_dist.mode()
    assert latent.shape == (2, 3 * 4**levels, rows, columns)
    assert torch.allclose(vae.decode(latent).sample, image, atol=1e-5)


def test_it_keeps_lengths_without_gains() -> None:
    image = torch.randn(1, 3, 16, 16)
    latent = HaarVAE(levels=2).encode(image).latent_dist.mode()
    assert torch.allclose(latent.norm(), image.norm(), rtol=1e-5)


def test_channels_go_from_coarse_to_fine() -> None:
    vae = HaarVAE(levels=2, gains=(1.0, 2.0, 3.0))
    flat = torch.full((1, 3, 8, 8), 0.5)
    latent = vae.encode(flat).latent_dist.mode()
    assert torch.allclose(latent[:, :3], torch.full((1, 3, 2, 2), 2.0))  # 0.5 times 2 per level
    assert latent[:, 3:].abs().max() == 0
    fine = flat.clone()
    fine[..., 0::2] += 0.1
    fine[..., 1::2] -= 0.1
    changed = vae.encode(fine).latent_dist.mode()
    assert torch.allclose(changed[:, :12], latent[:, :12], atol=1e-6)
    assert changed[:, 12:].abs().max() == pytest.approx(0.2 * 3, rel=1e-4)


def test_the_distribution_has_no_spread() -> None:
    posterior = HaarVAE().encode(torch.randn(1, 3, 8, 8)).latent_dist
    assert torch.equal(posterior.sample(), posterior.mode())


def test_pipelines_find_what_they_read() -> None:
    vae = HaarVAE(levels=2)
    assert vae.config.latent_channels == 48
    assert len(vae.config.block_out_channels) == 3
    assert vae.config.scaling_factor == 1
    assert vae.dtype == torch.float32
    assert list(vae.state_dict()) == ["gain"]


@pytest.mark.parametrize(("levels", "gains"), [(0, ()), (2, (1.0,)), (1, (1.0, -1.0))])
def test_impossible_transforms(levels: int, gains: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="Haar"):
        HaarVAE(levels=levels, gains=gains)
