from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

from visionllm_sdk import VisionLLM
from visionllm_sdk.agent import ChatVisionLLM

# Not run, and why:
# - PDF inputs, PDF tool messages, audio inputs: this model reads texts and images.
# - stream time: a benchmark of recorded web traffic; there is no web service behind this model.
# What needs a network (pictures of the web) is served on this machine.


class Suite(ChatModelIntegrationTests):
    """LangChain's integration suite with everything switched on that a vision model has to do with."""

    model_in_use: VisionLLM
    other_checkpoint: Path

    @pytest.fixture(autouse=True)
    def _pictures_of_the_web(self, local_web: str) -> None:
        """Everything the suite fetches is served here."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatVisionLLM

    @property
    def chat_model_params(self) -> dict[str, Any]:
        return {
            "vlm": self.model_in_use,
            "max_tokens": 60,
            "allow_urls": True,
            "allow_private_urls": True,
        }

    @property
    def supports_image_inputs(self) -> bool:
        return True

    @property
    def supports_image_urls(self) -> bool:
        return True

    @property
    def supports_image_tool_message(self) -> bool:
        return True

    @property
    def supports_anthropic_inputs(self) -> bool:
        return True

    @property
    def supports_json_mode(self) -> bool:
        return True

    @property
    def model_override_value(self) -> str:
        return str(self.other_checkpoint)

    @property
    def supported_usage_metadata_details(self) -> Any:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> Any:
        model = self.chat_model_class(**self.chat_model_params)
        model.invoke("Hello")
        if not stream:
            return model.invoke("Hello")
        first, *rest = model.stream("Hello")
        for chunk in rest:
            first += chunk
        return first


class TestRandomWeights(Suite):
    """Whatever the weights: calls and structured output are always well-formed."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _use(cls, random_vlm: VisionLLM, random_checkpoint: Path) -> None:
        cls.model_in_use, cls.other_checkpoint = random_vlm, random_checkpoint


@pytest.mark.quality
class TestEmbedded(Suite):
    """The model that ships in the package."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _use(cls, vlm: VisionLLM, random_checkpoint: Path) -> None:
        cls.model_in_use, cls.other_checkpoint = vlm, random_checkpoint
