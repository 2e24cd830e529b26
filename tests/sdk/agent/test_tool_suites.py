from __future__ import annotations

from typing import Any

import pytest
from langchain_core.tools import BaseTool
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests

from tests.sdk.agent.conftest import drawn
from visionllm_sdk import VisionLLM, load_image

EXAMPLES: dict[str, dict[str, Any]] = {
    "detect": {"labels": ["red circle", "star"], "threshold": 0.1},
    "ground": {"expression": "the red circle"},
    "segment": {"labels": ["red circle", "star"]},
    "count": {"label": "red circle"},
    "ask": {"question": "What colour is the circle?"},
    "caption": {},
}


class Example:
    """One of the tools, and arguments for it."""

    name: str
    made: BaseTool

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _make(cls, random_vlm: VisionLLM) -> None:
        """The tool, and an image in its session, as a program without a graph would register it."""
        cls.made = next(tool for tool in random_vlm.tools if tool.name == cls.name)
        random_vlm.workspace.session().images.add(load_image(drawn()))

    @property
    def tool_constructor(self) -> BaseTool:
        return self.made

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return EXAMPLES[self.name]


for name in EXAMPLES:  # both suites of LangChain for every tool
    for kind, suite in (("Unit", ToolsUnitTests), ("Integration", ToolsIntegrationTests)):
        title = f"Test{name.title()}{kind}"
        globals()[title] = type(title, (Example, suite), {"name": name, "__module__": __name__})


def test_every_tool_has_its_suites(random_vlm: VisionLLM) -> None:
    assert set(EXAMPLES) == {tool.name for tool in random_vlm.tools}
