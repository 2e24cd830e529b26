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
    "pose": {"label": "person", "keypoints": ["nose", "left knee"], "threshold": 0.0},
    "describe": {"regions": [[10, 10, 40, 30], [5, 5]]},
    "classify": {"regions": [[10, 10, 40, 30]], "labels": ["star", "circle"]},
    "segment_regions": {"regions": [[10, 10, 40, 30], [5, 5]]},
    "segment_like": {"example_region": [10, 10, 40, 30]},
    "generate": {"prompt": "a red star", "seed": 1},
    "edit": {"instruction": "make the star blue", "seed": 1},
}


class Example:
    """One of the tools, and arguments for it."""

    name: str
    made: BaseTool
    named: dict[str, str]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _make(cls, whole_vlm: VisionLLM) -> None:
        """The tool, and an image in its session, as a program without a graph would register it."""
        cls.made = next(tool for tool in whole_vlm.tools if tool.name == cls.name)
        handle = whole_vlm.workspace.session().images.add(load_image(drawn()))
        cls.named = {"example_image": handle} if cls.name == "segment_like" else {}

    @property
    def tool_constructor(self) -> BaseTool:
        return self.made

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        return {**EXAMPLES[self.name], **self.named}


for name in EXAMPLES:  # both suites of LangChain for every tool
    for kind, suite in (("Unit", ToolsUnitTests), ("Integration", ToolsIntegrationTests)):
        title = f"Test{name.title().replace('_', '')}{kind}"
        globals()[title] = type(title, (Example, suite), {"name": name, "__module__": __name__})


def test_every_tool_has_its_suites(whole_vlm: VisionLLM) -> None:
    assert set(EXAMPLES) == {tool.name for tool in whole_vlm.tools}
