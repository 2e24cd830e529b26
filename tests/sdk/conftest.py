"""A checkpoint in the shape of the embedded model with random weights, written and loaded like any other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

SYSTEM = "A vision assistant answers a user."
LAYOUTS = {
    token: {"question": f"{verb} {{labels}}", "answer": "{items}."}
    for token, verb in (("[DET]", "Detect"), ("[GRD]", "Find"), ("[SEG]", "Segment"))
}


def random_config(vocabulary: int, *, width: int = 64) -> dict[str, Any]:
    """A released configuration of small numbers."""
    backbone = {"layer_type": "basic", "embedding_size": 16, "hidden_sizes": [16, 24, 32, 48]}
    return {
        "model_type": "visionllmv2",
        "vis_encoder_config": {
            "model_type": "resnet",
            **backbone,
            "depths": [1, 1, 1, 1],
            "out_features": ["stage2", "stage3", "stage4"],
            "image_size": 256,
        },
        "llm_config": {
            "model_type": "llama",
            "vocab_size": vocabulary,
            "hidden_size": width,
            "intermediate_size": 2 * width,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 4,
            "max_position_embeddings": 1280,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        "vl_bridge_type": "mlp2x_gelu",
        "vis_output_layer": -1,
        "use_pixelshuffle": False,
        "use_region_encoder": True,
        "num_embs": 4,
        "num_embs_gen": 8,
        "use_gdino": True,
        "gdino_config": _detector_section(backbone, width),
        "visionllm_sdk": {
            "system_prompt": SYSTEM,
            "label_tags": True,
            "tool_turns": True,
            "max_forced_labels": 4,
            "max_tiles": 4,
            "layouts": LAYOUTS,
        },
    }


def _detector_section(backbone: dict[str, Any], width: int) -> dict[str, Any]:
    """The detector's part of `random_config`."""
    return {
        "backbone_config": {
            "model_type": "resnet",
            **backbone,
            "depths": [1, 1, 1, 1],
            "out_indices": [1, 2, 3, 4],
        },
        "d_model": 32,
        "num_queries": 12,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": 64,
        "decoder_ffn_dim": 64,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "mask_dim": 16,
        "l_hidden_size": width,
        "num_embs": 4,
        "shortest_edge": 128,
        "longest_edge": 256,
        "usable_only": True,
    }


def write_random_checkpoint(folder: Path, *, seed: int = 0, changes: dict[str, Any] | None = None) -> Path:
    """Build the model with random weights, and save it in the released layout."""
    import torch

    from visionllm_adapters.recipe.vocabulary import train_vocabulary
    from visionllm_sdk.model.assembly import Model
    from visionllm_sdk.model.config import ModelConfig
    from visionllm_sdk.model.core import build_core
    from visionllm_sdk.model.tokenizer import CONTROL_TOKENS, TextTokenizer
    from visionllm_sdk.registry import discover_tools

    pieces = train_vocabulary(folder / "vocabulary", size=420, count=1500).read_bytes()
    size = 420
    tokenizer = TextTokenizer(pieces, {text: size + i for i, text in enumerate(CONTROL_TOKENS)})
    torch.manual_seed(seed)
    released = random_config(tokenizer.vocab_size) | (changes or {})
    config = ModelConfig.from_released(released)
    core = build_core(config, tokenizer)
    built = [kind.from_config(released) for kind in discover_tools()]
    tools = {tool.name: tool for tool in built if tool is not None}
    Model(config=config, tokenizer=tokenizer, core=core, tools=tools).save(folder / "checkpoint")
    return folder / "checkpoint"


def drawing_changes() -> dict[str, Any]:
    """What small decoders of pictures add to `random_config`."""
    from visionllm_tools.diffusion.embedded import embedded_section

    changes: dict[str, Any] = {"use_sd": True, "use_ip2p": True}
    for name in ("sd", "ip2p"):
        section = embedded_section(
            64, editing=name == "ip2p", widths=(32, 32), condition=32, queries=4, side=32
        )
        section["visionllm_sdk"] |= {"steps": 2}
        changes[f"{name}_config"] = section
    return changes


def pose_sections() -> dict[str, Any]:
    """What a small pose estimator adds to `random_config`."""
    known = random_config(1)
    layout = {"question": "with the keypoints {labels}", "answer": "{items}."}
    backbone = known["gdino_config"]["backbone_config"] | {"out_indices": [2, 3, 4]}
    return {
        "use_unipose": True,
        "unipose_config": {
            "backbone_config": backbone,
            "hidden_dim": 32,
            "nheads": 4,
            "enc_layers": 1,
            "dec_layers": 3,
            "num_box_decoder_layers": 1,
            "num_queries": 12,
            "num_groups": 6,
            "num_body_points": 24,
            "dim_feedforward": 64,
            "l_hidden_size": known["gdino_config"]["l_hidden_size"],
            "shortest_edge": 96,
            "longest_edge": 192,
            "released_group_mask": False,
            "keypoint_visibility": True,
            "usable_only": True,
        },
        "visionllm_sdk": known["visionllm_sdk"] | {"layouts": {**LAYOUTS, "[POSE]": layout}},
    }


@pytest.fixture(scope="session")
def random_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint with random weights."""
    return write_random_checkpoint(tmp_path_factory.mktemp("random"))


@pytest.fixture(scope="session")
def random_vlm(random_checkpoint: Path) -> VisionLLM:
    """A model that knows nothing, but runs like a trained one."""
    from visionllm_sdk import VisionLLM

    return VisionLLM.from_pretrained(random_checkpoint)


@pytest.fixture(scope="session")
def drawing_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint with random weights that can also draw and edit: 32 x 32 pixels, two steps."""
    return write_random_checkpoint(tmp_path_factory.mktemp("drawing"), changes=drawing_changes())
