from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_tests.integration_tests import ChatModelIntegrationTests

from tests.sdk.conftest import write_random_checkpoint
from visionllm_sdk import VisionLLM
from visionllm_sdk.agent import ChatVisionLLM

NOT_RUN: Final = {
    "test_pdf_inputs": "this model reads texts and images",
    "test_pdf_tool_message": "this model reads texts and images",
    "test_audio_inputs": "this model reads texts and images",
    "test_stream_time": "a benchmark of recorded web traffic, and there is no web service behind this model",
}
"""Tests of the suite that are skipped, and why. What needs a network is served on this machine instead."""


class Suite(ChatModelIntegrationTests):
    """LangChain's integration suite with everything switched on that a vision model has to do with."""

    model_in_use: VisionLLM
    other_checkpoint: Path

    @pytest.fixture(autouse=True)
    def _pictures_of_the_web(self, local_web: str) -> None:
        """Everything the suite fetches is served here."""

    @pytest.fixture(autouse=True)
    def _nothing_else_is_skipped(
        self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A test that skips itself without a reason that is listed above fails."""
        if request.node.originalname not in NOT_RUN:
            monkeypatch.setattr(pytest, "skip", pytest.fail)

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


def talkative(tmp_path_factory: pytest.TempPathFactory) -> VisionLLM:
    """A model with random weights that says something: some happen to write nothing but blanks."""
    from visionllm_sdk import VisionLLM

    for seed in range(8):
        folder = write_random_checkpoint(tmp_path_factory.mktemp("talkative"), seed=seed)
        vlm = VisionLLM.from_pretrained(folder)
        model = ChatVisionLLM(vlm=vlm, max_tokens=60)
        if all(model.invoke(text).content for text in ("Hello", "Hey")):
            return vlm
    raise AssertionError("eight random models in a row are silent")


class TestRandomWeights(Suite):
    """Whatever the weights: calls and structured output are always well-formed."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _use(cls, tmp_path_factory: pytest.TempPathFactory, random_checkpoint: Path) -> None:
        cls.model_in_use, cls.other_checkpoint = talkative(tmp_path_factory), random_checkpoint


@pytest.mark.quality
class TestEmbedded(Suite):
    """The model that ships in the package."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _use(cls, vlm: VisionLLM, random_checkpoint: Path) -> None:
        cls.model_in_use, cls.other_checkpoint = vlm, random_checkpoint
