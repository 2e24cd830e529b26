from __future__ import annotations

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from torch.nn import functional as F

from tests.sdk.model.reference import GOLDENS, TOLERANCE, error, golden, reference_model, released_config
from visionllm_sdk.errors import ConfigError, RegionError
from visionllm_sdk.model.bridge import build_bridge, pixel_shuffle
from visionllm_sdk.model.config import ModelConfig
from visionllm_sdk.model.keys import core_key_table
from visionllm_sdk.model.region import average_under_mask
from visionllm_sdk.model.vision import InternVitEncoder, build_vision, frozen_features

CONV = {
    "model_type": "resnet",
    "embedding_size": 8,
    "hidden_sizes": [8, 12, 16, 24],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
    "out_features": ["stage2", "stage3", "stage4"],
    "image_size": 96,
}


def configured(**changes: object) -> ModelConfig:
    return ModelConfig.from_released(released_config() | changes)


@pytest.mark.parametrize(
    "name", ["golden_internvit_rms_norm_qknorm", "golden_internvit_rms_norm_noqknorm_bias"]
)
def test_internvit_equals_the_recorded_states(name: str):
    values = golden(name)
    with safe_open(GOLDENS / f"{name}.safetensors", "pt") as file:
        section = json.loads(file.metadata()["meta"])["config"]
    config = configured(vis_encoder_config={**section, "model_type": "intern_vit_6b"}, vis_output_layer=-1)
    encoder = build_vision(config).eval()
    assert isinstance(encoder, InternVitEncoder)
    table = core_key_table(config)
    state = {}
    for key, tensor in values.items():
        if key.startswith("weight."):
            names, split = table.to_module("vis_encoder." + key.removeprefix("weight."))
            state |= {
                one.removeprefix("vis_encoder."): part for one, part in zip(names, split(tensor), strict=True)
            }
    encoder.load_state_dict(state)
    with torch.no_grad():
        for index, found in enumerate(encoder.hidden_states(values["images"])):
            assert error(found, values[f"vis_hidden.{index}"]) < TOLERANCE


@pytest.mark.parametrize("name", ["tiny_core", "variant_core"])
def test_skipping_layers_changes_nothing(name: str):
    encoder = reference_model(name).core.vis_encoder
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        whole, short = encoder(pixels, levels=True), encoder(pixels)
    assert torch.equal(whole.tokens, short.tokens)
    assert whole.tokens.shape == (2, encoder.grid**2, encoder.width)
    assert [level.shape for level in whole.levels] == [(2, encoder.width, encoder.grid, encoder.grid)] * 3


def test_a_conv_encoder_yields_patches_and_levels():
    encoder = build_vision(configured(vis_encoder_config=CONV)).eval()
    assert (encoder.grid, encoder.width, encoder.level_widths) == (3, 24, (12, 16, 24))
    pixels = torch.randn(5, 3, 96, 96)  # more than are encoded at once
    features = frozen_features(encoder, pixels, levels=True)
    assert features.tokens.shape == (5, 9, 24)
    alone = encoder(pixels[4:]).tokens  # sums of another batch are added in another order
    torch.testing.assert_close(features.tokens[4:], alone, rtol=1e-4, atol=1e-4)
    assert [tuple(level.shape[1:]) for level in features.levels] == [(12, 12, 12), (16, 6, 6), (24, 3, 3)]
    assert not features.tokens.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vis_encoder_config": {"model_type": "dino"}}, "clip_vision_model, intern_vit_6b, resnet"),
        ({"vis_output_layer": -9}, "vis_output_layer"),
        ({"vis_output_layer": 1}, "vis_output_layer"),
    ],
)
def test_impossible_encoders_are_refused(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        build_vision(configured(**change))


def test_an_eps_that_the_library_cannot_express_is_refused():
    section = dict(released_config("variant_core")["vis_encoder_config"]) | {"layer_norm_eps": 1e-5}
    with pytest.raises(ConfigError, match="layer_norm_eps"):
        build_vision(configured(vis_encoder_config=section))


def test_pixel_shuffle_equals_the_recorded_permutation():
    values = golden("golden_pixel_shuffle")
    assert torch.equal(pixel_shuffle(values["in"].flatten(1, 2), 4), values["out"].flatten(1, 2))


def test_pixel_shuffle_of_an_odd_grid_is_refused():
    with pytest.raises(ConfigError, match="even"):
        pixel_shuffle(torch.zeros(1, 9, 2), 3)


def test_bridges():
    assert [type(layer).__name__ for layer in build_bridge("internvl_mlp", 8, 4)] == [
        "LayerNorm",
        "Linear",
        "GELU",
        "Linear",
    ]
    assert build_bridge("linear", 8, 4)(torch.zeros(2, 8)).shape == (2, 4)
    with pytest.raises(ConfigError, match="linear, mlp2x_gelu, internvl_mlp"):
        build_bridge("qformer", 8, 4)


def test_region_embeddings_equal_the_recorded_ones():
    values = golden("golden_region_encoder")
    encoder = reference_model("tiny_core").core.region_encoder
    levels = [values[f"features.{level}"].transpose(1, 2).unflatten(2, (4, 4)) for level in range(3)]
    found = encoder(values["images"][:2], values["masks"][:2, 0], tuple(level[:2] for level in levels))
    assert error(found, values["out"][:2]) < TOLERANCE


def test_an_empty_region_is_an_error():
    values = golden("golden_region_encoder")
    encoder = reference_model("tiny_core").core.region_encoder
    levels = tuple(values[f"features.{level}"].transpose(1, 2).unflatten(2, (4, 4)) for level in range(3))
    with pytest.raises(RegionError, match="region 2"):
        encoder(values["images"], values["masks"][:, 0], levels)


@given(st.integers(0, 2**16), st.integers(2, 6), st.integers(4, 20), st.integers(4, 20))
def test_the_average_under_a_mask_is_the_mean_of_samples(seed: int, cells: int, height: int, width: int):
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(1, 3, cells, cells, generator=random)
    mask = torch.rand(1, height, width, generator=random) < 0.3
    mask[0, seed % height, seed % width] = True
    rows, columns = mask[0].nonzero().T
    where = torch.stack([columns / width, rows / height], dim=-1) * 2 - 1
    samples = F.grid_sample(maps, where[None, None], mode="bilinear", align_corners=False)
    torch.testing.assert_close(average_under_mask(maps, mask.float())[0], samples[0, :, 0].mean(-1))
