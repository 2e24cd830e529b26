from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.model.reference import released_config
from visionllm_sdk.errors import CheckpointError, ConfigError
from visionllm_sdk.model.assembly import load_model
from visionllm_sdk.model.config import ModelConfig, read_config
from visionllm_sdk.model.language import build_language
from visionllm_sdk.model.sdk_section import SDK_SECTION, SdkSection
from visionllm_sdk.model.vision import build_vision
from visionllm_sdk.registry import ToolRegistry
from visionllm_sdk.tool import ForcedLayout
from visionllm_tools.detection.tool import DetectionTool


@pytest.mark.parametrize("name", ["tiny_core", "variant_core"])
def test_the_released_form_survives(name: str):
    released = released_config(name)
    assert ModelConfig.from_released(released).to_released() == released


def test_the_families_know_their_settings():
    small = ModelConfig.from_released(released_config("tiny_core"))
    large = ModelConfig.from_released(released_config("variant_core"))
    assert (small.conversation, small.max_tiles, small.vision_layer) == ("vicuna_v1", 4, -2)
    assert (large.conversation, large.max_tiles, large.vision_layer) == ("internlm2_chat", 6, -1)
    assert small.image_mean != large.image_mean
    assert small.query_tables == {"det": 4, "pose": 4, "gen": 8, "edit": 8}
    assert small.routing["[SEG]"] == "det"


def test_the_extra_section_survives():
    section = {
        "system_prompt": "",
        "label_tags": True,
        "max_tiles": 1,
        "max_stretch": 1.4,
        "image_mean": [0.5, 0.5, 0.5],
        "query_tables": {"depth": 3},
        "routing": {"[DEPTH]": "depth"},
        "layouts": {
            "[DET]": {"question": "{labels}?", "answer": "{items}", "item": "{token}", "separator": ";"}
        },
    }
    config = ModelConfig.from_released(released_config() | {SDK_SECTION: section})
    assert config.max_tiles == 1
    assert config.sdk.max_stretch == 1.4
    assert config.image_mean == (0.5, 0.5, 0.5)
    assert config.margin_colour == (128, 128, 128)
    assert config.routing["[DEPTH]"] == "depth"
    assert config.sdk.layouts["[DET]"].separator == ";"
    assert json.loads(json.dumps(config.to_released()))[SDK_SECTION] == section


def test_defaults_are_not_written():
    assert SdkSection().to_dict() == {}
    section = SdkSection(layouts={"[DET]": ForcedLayout(question="{labels}")})
    assert SdkSection.from_dict(section.to_dict()) == section


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a stretch below one": ({SDK_SECTION: {"max_stretch": 0.5}}, "max_stretch is impossible"),
    "a word for a number": ({SDK_SECTION: {"max_stretch": "wide"}}, "max_stretch is of a wrong type.*wide"),
    "a list for a section": ({SDK_SECTION: [1]}, "visionllm_sdk is no JSON object"),
    "a list for a table": ({SDK_SECTION: {"query_tables": [1]}}, r"query_tables is of a wrong type.*\[1\]"),
    "too few numbers": ({SDK_SECTION: {"image_mean": [0.1]}}, "image_mean.1 is of a wrong type"),
    "a layout without question": ({SDK_SECTION: {"layouts": {"[DET]": {}}}}, r"layouts.\[DET\].question"),
    "a layout with more": (
        {SDK_SECTION: {"layouts": {"[DET]": {"question": "?", "reply": "."}}}},
        r"layouts.\[DET\].reply",
    ),
    "a word for a switch": ({"use_pixelshuffle": "no"}, "use_pixelshuffle is of a wrong type.*no"),
    "a width in words": (
        {"llm_config": {"model_type": "llama", "vocab_size": 9, "hidden_size": "wide"}},
        "llm_config.hidden_size is of a wrong type.*wide",
    ),
    "a share above one": ({SDK_SECTION: {"closer_look": 90}}, "closer_look is impossible"),
    "remote code": ({"auto_map": {"AutoModel": "x.Y"}}, "remote code"),
    "nested remote code": ({"llm_config": {"auto_map": {}}}, "llm_config.*auto_map"),
    "another model": ({"model_type": "llava"}, "another model"),
    "a missing section": ({"vis_encoder_config": None}, "without vis_encoder_config"),
    "an unknown field": ({"quantum_layers": 3}, "quantum_layers"),
    "an unknown extra field": ({SDK_SECTION: {"label_tag": True}}, "label_tag"),
    "unmerged adapters": ({"use_llm_lora": True}, "Merge"),
    "an empty language section": ({"llm_config": {"model_type": "llama"}}, "lacks vocab_size, hidden_size"),
    "no queries": ({"num_embs": 0}, "at least 1"),
    "a token without table": ({SDK_SECTION: {"routing": {"[DEPTH]": "depth"}}}, "unknown query table"),
}


@pytest.mark.parametrize("case", list(BAD))
def test_bad_configurations_are_named(case: str):
    change, message = BAD[case]
    with pytest.raises(ConfigError, match=message):
        ModelConfig.from_released(released_config() | change)


@pytest.mark.parametrize("section", ["llm_config", "vis_encoder_config"])
def test_what_a_library_refuses_is_named(section: str):
    released = released_config()
    released[section] = {**released[section], "num_attention_heads": 0}
    config = ModelConfig.from_released(released)
    with pytest.raises(ConfigError, match=f"{section} in config.json cannot be used"):
        build_language(config) if section == "llm_config" else build_vision(config)


def test_what_a_tool_refuses_is_named(random_checkpoint: Path, tmp_path: Path):
    released = json.loads((random_checkpoint / "config.json").read_text())
    released["gdino_config"]["d_model"] = "wide"
    for file in random_checkpoint.iterdir():
        if file.name != "config.json":
            (tmp_path / file.name).symlink_to(file)
    (tmp_path / "config.json").write_text(json.dumps(released))
    with pytest.raises(ConfigError, match=r"'detect' in config.json cannot be used"):
        load_model(tmp_path, registry=ToolRegistry([DetectionTool]), check=False)


def test_sections_of_unknown_tools_are_kept():
    released = released_config() | {"use_depth": True, "depth_config": {"width": 4}}
    assert ModelConfig.from_released(released).to_released()["depth_config"] == {"width": 4}


@pytest.mark.parametrize(
    ("content", "message"), [(None, "no config.json"), ("{", "as JSON"), ("[]", "JSON object")]
)
def test_an_unreadable_file_is_named(tmp_path: Path, content: str | None, message: str):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        read_config(tmp_path)


def test_normalisation_comes_from_the_preprocessor_file(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(released_config()))
    usual = read_config(tmp_path)
    own = {"image_mean": [0.5, 0.5, 0.5], "image_std": list(usual.image_std)}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(own))
    config = read_config(tmp_path)
    assert config.image_mean == (0.5, 0.5, 0.5)
    assert config.image_std == usual.image_std
    assert config.sdk.image_std is None
