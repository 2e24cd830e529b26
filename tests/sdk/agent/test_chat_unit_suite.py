from __future__ import annotations

import importlib
import json
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumps, load
from langchain_tests.unit_tests import ChatModelUnitTests

from visionllm_sdk.agent import ChatVisionLLM

load_module = importlib.import_module("langchain_core.load.load")


class TestChatVisionLLM(ChatModelUnitTests):
    """LangChain's unit suite. Nothing is loaded: a model is only made and described."""

    @pytest.fixture(autouse=True)
    def _known_to_the_loader(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The suite revives with `allowed_objects="all"`, which means all classes of LangChain's partners.

        A program names other classes itself, as `test_stored_settings` does.
        """
        path = tuple(ChatVisionLLM.lc_id())
        monkeypatch.setitem(load_module.ALL_SERIALIZABLE_MAPPINGS, path, path)
        monkeypatch.setattr(load_module, "_default_class_paths_cache", {})

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatVisionLLM

    @property
    def init_from_env_params(self) -> tuple[dict[str, str], dict[str, Any], dict[str, Any]]:
        return (
            {"VISIONLLM_MODEL": "some/checkpoint", "VISIONLLM_DEVICE": "meta"},
            {},
            {"model": "some/checkpoint", "device": "meta"},
        )


@pytest.mark.filterwarnings("ignore:The function .load. is in beta")
def test_stored_settings() -> None:
    model = ChatVisionLLM(
        model="some/checkpoint", temperature=0.5, forbid=["[SEG]"], url_hosts=["example.org"]
    )
    text = dumps(model)
    revived = load(json.loads(text), allowed_objects=[ChatVisionLLM], valid_namespaces=["visionllm_sdk"])
    assert revived.model_dump() == model.model_dump()
    assert set(json.loads(text)["kwargs"]) <= set(ChatVisionLLM.model_fields) - {"vlm"}


def test_profile_and_identity() -> None:
    model = ChatVisionLLM(allow_urls=True, max_tokens=77)
    profile: Any = model.profile
    assert profile["image_inputs"]
    assert profile["image_url_inputs"]
    assert not profile["audio_inputs"]
    assert profile["max_output_tokens"] == 77
    assert model._llm_type == "visionllm"
    assert "vlm" not in repr(model)
