from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_tests.unit_tests import ChatModelUnitTests

from visionllm_sdk.agent import ChatVisionLLM


class TestChatVisionLLM(ChatModelUnitTests):
    """LangChain's unit suite. Nothing is loaded: a model is only made and described."""

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
