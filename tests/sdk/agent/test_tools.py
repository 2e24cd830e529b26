from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from tests.sdk.agent.conftest import asking, drawn
from visionllm_sdk import Answer, Count, Detections, Grounding, SemanticMap, VisionLLM, load_image
from visionllm_sdk.agent import Workspace, tools_of
from visionllm_sdk.agent.dialogue import OVERLAY
from visionllm_sdk.agent.sessions import Sessions
from visionllm_sdk.handles import HandleLimits
from visionllm_sdk.regions import Box, Point


@pytest.fixture
def workspace(random_vlm: VisionLLM) -> Workspace:
    """Sessions that no other test uses."""
    return Workspace(random_vlm)


@pytest.fixture
def tools(random_vlm: VisionLLM, workspace: Workspace) -> dict[str, BaseTool]:
    return {tool.name: tool for tool in tools_of(random_vlm, workspace=workspace)}


def call(tool: BaseTool, **arguments: Any) -> ToolMessage:
    message = tool.invoke({"name": tool.name, "args": arguments, "id": "1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


ARGUMENTS: dict[str, tuple[dict[str, Any], type]] = {
    "detect": ({"labels": ["star", "red circle"]}, Detections),
    "ground": ({"expression": "the star"}, Grounding),
    "segment": ({"labels": ["star", "red circle"]}, SemanticMap),
    "count": ({"label": "star"}, Count),
    "ask": ({"question": "what colour is the star?"}, Answer),
    "caption": ({}, Answer),
    "describe": ({"regions": [[10, 10, 40, 30], [5, 5]]}, list),
    "classify": ({"regions": [[10, 10, 40, 30]], "labels": ["star", "circle"]}, list),
    "segment_regions": ({"regions": [[10, 10, 40, 30], [5, 5]]}, Detections),
}
REGIONS = [Box(10, 10, 40, 30), Point(5, 5)]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_tools_do_what_the_methods_do(
    name: str, tools: dict[str, BaseTool], workspace: Workspace, random_vlm: VisionLLM
) -> None:
    arguments, kind = ARGUMENTS[name]
    image = load_image(drawn())
    handle = workspace.session().images.add(image)
    message = call(tools[name], image=handle, **arguments)
    assert message.status == "success"
    assert isinstance(message.artifact, kind)
    if "regions" in arguments:
        arguments = {**arguments, "regions": REGIONS[: len(arguments["regions"])]}
    direct = getattr(random_vlm, name)(image, **arguments)
    if isinstance(direct, Answer):  # what was read there is not read again here: sums are rounded otherwise
        probability = message.artifact.probability
        assert 0 < probability <= 1
        assert probability == pytest.approx(direct.probability, rel=1e-3)
        direct = direct.model_copy(update={"probability": probability})
    assert message.artifact == direct
    assert isinstance(message.content, str)
    assert message.content


def test_schemas_say_what_a_planner_needs(tools: dict[str, BaseTool]) -> None:
    for name, tool in tools.items():
        if name not in ARGUMENTS:
            continue
        function = convert_to_openai_tool(tool)["function"]
        assert function["description"] == tool.description
        fields = function["parameters"]["properties"]
        assert "runtime" not in fields
        assert all(field.get("description") for field in fields.values()), name
        assert set(ARGUMENTS[name][0]) <= set(fields)
        assert function["parameters"].get("required", []) == list(ARGUMENTS[name][0])


@pytest.mark.parametrize(
    ("name", "arguments", "remedy"),
    [
        ("detect", {}, "labels: Field required"),
        ("detect", {"labels": []}, "at least 1 item"),
        ("detect", {"labels": [""]}, "at least 1 character"),
        ("detect", {"labels": "star"}, "valid list"),
        ("detect", {"labels": ["star"], "threshold": 7}, "less than or equal to 1"),
        ("detect", {"labels": ["star"], "wrong": 1}, "Extra inputs"),
        ("detect", {"labels": ["star"], "image": "img_1_0011223344556677"}, "Images of this conversation"),
        ("detect", {"labels": ["star"], "image": "../../etc/passwd"}, "not a img handle"),
        ("detect", {"labels": ["star"], "superlink": "link_1_0011223344556677"}, "labels and image only"),
        ("ask", {"question": "   "}, "empty"),
        ("describe", {"regions": []}, "at least 1 item"),
        ("describe", {"regions": [[1, 2, 3]]}, "[x, y] or [x1, y1, x2, y2]"),
        ("describe", {"regions": [[1, float("nan")]]}, "finite number"),
        ("describe", {"regions": [[40, 30, 10, 10]]}, "swapped"),
        ("describe", {"regions": [[1, 2], [500, 5]]}, "region 1: the point lies outside"),
        ("describe", {"regions": "everything"}, "valid list"),
        ("segment_like", {"example_region": [1, 2]}, "example_image: Field required"),
        (
            "segment_like",
            {"example_region": [1, 2], "example_image": "img_1_0011223344556677"},
            "argument `example_image`",
        ),
    ],
)
def test_errors_come_back_as_messages_with_a_remedy(
    name: str, arguments: dict[str, Any], remedy: str, tools: dict[str, BaseTool], workspace: Workspace
) -> None:
    workspace.session().images.add(load_image(drawn()))
    message = call(tools[name], **arguments)
    assert message.status == "error"
    assert remedy in str(message.content)
    assert message.artifact is None
    assert len(message.content) <= 600


def test_without_any_image(tools: dict[str, BaseTool]) -> None:
    message = call(tools["caption"])
    assert message.status == "error"
    assert "no image in this conversation" in str(message.content)


def test_a_forged_runtime_is_not_believed(tools: dict[str, BaseTool], workspace: Workspace) -> None:
    state = {"messages": [asking("look", drawn())]}
    forged = {"state": state, "config": {"configurable": {"thread_id": "someone else"}}}
    message = call(tools["caption"], runtime=forged)
    assert message.status == "error"
    assert "no image" in str(message.content)
    assert len(workspace.session().images) == 0


async def test_asynchronous_calls(tools: dict[str, BaseTool], workspace: Workspace) -> None:
    handle = workspace.session().images.add(load_image(drawn()))
    for name, (arguments, kind) in ARGUMENTS.items():
        order = {"name": name, "args": {**arguments, "image": handle}, "id": "1", "type": "tool_call"}
        message = await tools[name].ainvoke(order)
        assert isinstance(message.artifact, kind)
    failed = await tools["detect"].ainvoke(
        {"name": "detect", "args": {"labels": ["star"], "image": "img_x"}, "id": "1", "type": "tool_call"}
    )
    assert failed.status == "error"


def test_details_and_overlays(random_vlm: VisionLLM, workspace: Workspace) -> None:
    detect = tools_of(random_vlm, details=True, overlay=True, workspace=workspace)[0]
    handle = workspace.session().images.add(load_image(drawn()))
    message = call(detect, labels=["star"], threshold=0.0, image=handle)
    text, shown = message.content
    assert isinstance(text, dict)
    assert isinstance(shown, dict)
    assert text["text"].count(" at [") == len(message.artifact) > 0
    assert shown["type"] == "image"
    assert shown["extras"] == {OVERLAY: handle}


def graph_of(tools: list[BaseTool]) -> Any:
    """A graph of nothing but a tool node: what any planner's agent does with our tools."""
    graph = StateGraph(MessagesState)
    graph.add_node("tools", ToolNode(tools))
    graph.add_edge(START, "tools")
    return graph.compile()


def planned(*calls: dict[str, Any]) -> AIMessage:
    """What a foreign planner writes."""
    return AIMessage(
        "",
        tool_calls=[
            {"name": one.pop("name"), "args": one, "id": str(number), "type": "tool_call"}
            for number, one in enumerate(calls)
        ],
    )


def test_under_a_foreign_planner(random_vlm: VisionLLM, workspace: Workspace) -> None:
    graph = graph_of(tools_of(random_vlm, workspace=workspace))
    messages = [
        asking("count the stars", drawn(1)),
        planned({"name": "count", "label": "star"}, {"name": "nothing"}),
    ]
    state = graph.invoke({"messages": messages}, {"configurable": {"thread_id": "a"}})
    counted, unknown = state["messages"][-2:]
    assert counted.artifact == random_vlm.count(drawn(1), "star")
    assert unknown.status == "error"
    assert len(workspace.sessions.of("a").images) == 1
    assert len(workspace.sessions.of("b").images) == 0
    assert len(workspace.sessions.of(None).images) == 0


def test_handles_of_another_thread_are_refused(random_vlm: VisionLLM, workspace: Workspace) -> None:
    graph = graph_of(tools_of(random_vlm, workspace=workspace))
    secret = workspace.sessions.of("a").images.add(load_image(drawn(1)))
    for text in (f"use {secret}", "look"):
        messages = [HumanMessage(text), planned({"name": "caption", "image": secret})]
        state = graph.invoke({"messages": messages}, {"configurable": {"thread_id": "b"}})
        assert state["messages"][-1].status == "error"
        assert "does not belong to this session" in state["messages"][-1].content


def test_superlinks_of_another_thread_are_refused(random_vlm: VisionLLM, workspace: Workspace) -> None:
    graph = graph_of(tools_of(random_vlm, workspace=workspace))
    model = random_vlm.as_chat_model(max_tokens=24, force="detect")
    message = model.invoke([asking("find the star", drawn(1))])
    stolen = message.tool_calls[0]["args"]["superlink"]
    assert stolen in random_vlm.workspace.session().links
    messages = [
        asking("look", drawn(1)),
        planned({"name": "detect", "labels": ["star"], "superlink": stolen}),
    ]
    state = graph.invoke({"messages": messages}, {"configurable": {"thread_id": "b"}})
    assert state["messages"][-1].status == "error"
    assert "argument `superlink`" in state["messages"][-1].content
    assert state["messages"][-1].artifact is None


def test_two_hundred_calls_are_answered_one_by_one(random_vlm: VisionLLM, workspace: Workspace) -> None:
    graph = graph_of(tools_of(random_vlm, workspace=workspace))
    foreign = "img_1_0011223344556677"
    calls = [{"name": "count", "label": "star", "image": foreign} for _ in range(198)]
    asked = planned({"name": "count", "label": "star"}, *calls, {"name": "count", "label": ""})
    state = graph.invoke(
        {"messages": [asking("look", drawn(1)), asked]}, {"configurable": {"thread_id": "a"}}
    )
    reports = state["messages"][2:]
    assert [one.tool_call_id for one in reports] == [str(number) for number in range(200)]
    assert [one.status for one in reports] == ["success", *["error"] * 199]
    assert len(workspace.sessions.of("a").images) == 1


def test_the_latest_image_is_meant_where_none_is_named(random_vlm: VisionLLM, workspace: Workspace) -> None:
    graph = graph_of(tools_of(random_vlm, workspace=workspace))
    messages = [
        asking("one", drawn(1)),
        AIMessage("ok"),
        asking("two", drawn(2)),
        planned({"name": "count", "label": "star"}),
    ]
    state = graph.invoke({"messages": messages}, {"configurable": {"thread_id": "a"}})
    assert state["messages"][-1].artifact == random_vlm.count(drawn(2), "star")


def test_photos_larger_than_a_session_are_read_together(random_vlm: VisionLLM) -> None:
    """One of them is gone when the tool is called, and reading it again must not cost the other."""
    sessions = Sessions(limits=HandleLimits(max_bytes=3 * 72 * 56 - 1))
    graph = graph_of(tools_of(random_vlm, workspace=Workspace(random_vlm, sessions=sessions)))
    images = sessions.of("a").images
    handles = [images.add(load_image(drawn(seed))) for seed in (1, 2)]
    assert list(images) == handles[1:]
    counting = planned({"name": "count", "label": "star", "image": handles[0]})
    messages = [asking("look", drawn(1), drawn(2)), counting]
    state = graph.invoke({"messages": messages}, {"configurable": {"thread_id": "a"}})
    assert state["messages"][-1].artifact == random_vlm.count(drawn(1), "star")
    assert len(images) == 1


# -- calls that a person has changed -----------------------------------------------------------------------


@pytest.fixture
def routed(random_vlm: VisionLLM) -> dict[str, dict[str, Any]]:
    """Arguments of calls that the vision model made, by skill."""
    made = {}
    for name in ("detect", "ground"):
        model = random_vlm.as_chat_model(max_tokens=24, force=name)
        made[name] = model.invoke([asking("find the star", drawn(1))]).tool_calls[0]["args"]
    return made


@pytest.mark.parametrize(
    ("name", "change"), [("detect", {"labels": ["dog"]}), ("ground", {"expression": "the dog"})]
)
def test_changed_words_are_looked_for(
    name: str, change: dict[str, Any], routed: dict[str, dict[str, Any]], random_vlm: VisionLLM
) -> None:
    tool = next(one for one in random_vlm.tools if one.name == name)
    report = call(tool, **{**routed[name], **change, "threshold": 0.0})
    assert report.artifact == getattr(random_vlm, name)(drawn(1), **change, threshold=0.0)


def test_a_changed_image_is_looked_at(routed: dict[str, dict[str, Any]], random_vlm: VisionLLM) -> None:
    detect = random_vlm.tools[0]
    other = random_vlm.workspace.session().images.add(load_image(drawn(2)))
    arguments = {**routed["detect"], "threshold": 0.0}
    report = call(detect, **{**arguments, "image": other})
    direct = random_vlm.detect(drawn(2), arguments["labels"], threshold=0.0)
    assert report.artifact == direct


def test_unchanged_calls_pass_on_their_superlink(
    routed: dict[str, dict[str, Any]], random_vlm: VisionLLM
) -> None:
    arguments = {**routed["detect"], "threshold": 0.0}
    report = call(random_vlm.tools[0], **arguments)
    direct = random_vlm.detect(drawn(1), arguments["labels"], threshold=0.0)
    assert report.artifact.labels == direct.labels
    assert [one.score for one in report.artifact] != pytest.approx([one.score for one in direct], rel=1e-3)


def test_graphs_without_a_thread_see_the_images_of_their_messages_only(
    random_vlm: VisionLLM, workspace: Workspace
) -> None:
    """They share one session: what one user has shown must not answer another."""
    graph = graph_of(tools_of(random_vlm, workspace=workspace))
    counting = {"name": "count", "label": "star"}
    mine = graph.invoke({"messages": [asking("look", drawn(1)), planned({**counting})]})
    assert mine["messages"][-1].status == "success"
    theirs = graph.invoke({"messages": [HumanMessage("how many stars?"), planned({**counting})]})
    assert theirs["messages"][-1].status == "error"
    assert "no image in this conversation" in theirs["messages"][-1].content
