"""The model as part of a LangChain agent; LangChain is imported when it is asked for."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from visionllm_sdk.agent import ChatVisionLLM
    from visionllm_sdk.agent.workspace import Workspace
    from visionllm_sdk.skills.facade import VisionLLM


class ForAgents:
    """Adds `tools` and `as_chat_model`.

    Attributes:
        name: of the checkpoint.
    """

    name: str

    @cached_property
    def workspace(self) -> Workspace:
        """What its tools and chat models share: the images and super-links of conversations.

        Raises:
            MissingExtraError: LangChain is not installed.
        """
        from visionllm_sdk.agent import Workspace

        return Workspace(cast("VisionLLM", self))

    @property
    def tools(self) -> list[BaseTool]:
        """One LangChain tool for every skill, named after its method.

        Raises:
            MissingExtraError: LangChain is not installed.
        """
        from visionllm_sdk.agent import tools_of

        return tools_of(cast("VisionLLM", self))

    def as_chat_model(self, **settings: Any) -> ChatVisionLLM:
        """This model as a LangChain chat model; see :class:`ChatVisionLLM` for its settings.

        Raises:
            MissingExtraError: LangChain is not installed.
        """
        from visionllm_sdk.agent import ChatVisionLLM

        return ChatVisionLLM(model=self.name, vlm=cast("VisionLLM", self), **settings)
