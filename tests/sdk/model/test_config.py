from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.sdk.model.reference import released_config
from visionllm_sdk.errors import CheckpointError, ConfigError
from visionllm_sdk.model.config import ModelConfig, read_config
from visionllm_sdk.model.sdk_section import SDK_SECTION, SdkSection
from visionllm_sdk.tool import ForcedLayout


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
    "a word for a number": ({SDK_SECTION: {"max_stretch": "wide"}}, "max_stretch is impossible"),
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
