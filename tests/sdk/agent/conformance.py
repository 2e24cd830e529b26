"""What the conformance suites of `langchain-tests` are told about this chat model."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel

from visionllm_sdk.agent import ChatVisionLLM

# Not run, and why:
# - PDF inputs, PDF tool messages, audio inputs: the model sees images.
# - stream time: a benchmark of recorded web traffic; there is no web service behind this model.


class Capabilities:
    """Everything that the suites can switch on, but for PDF and audio."""

    @property
    def chat_model_class(self) -> type[BaseChatModel]:
        return ChatVisionLLM

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
    def returns_usage_metadata(self) -> bool:
        return True

    @property
    def supported_usage_metadata_details(self) -> dict[str, list[str]]:
        return {"invoke": ["cache_read_input"], "stream": ["cache_read_input"]}

    def invoke_with_cache_read_input(self, *, stream: bool = False) -> Any:
        model = self.chat_model_class(**self.chat_model_params)  # type: ignore[attr-defined]
        model.invoke("Hello")
        if not stream:
            return model.invoke("Hello")
        chunks = list(model.stream("Hello"))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        return whole
