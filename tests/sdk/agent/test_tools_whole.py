"""Tools of a model that has every part: poses, regions of two images, pictures that are drawn and changed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool

from tests.sdk.agent.conftest import asking, drawn
from tests.sdk.scripted import Script
from visionllm_sdk import Detections, VisionAgent, VisionLLM, load_image, revive
from visionllm_sdk.agent import Workspace, tools_of
from visionllm_sdk.agent.chat import ChatVisionLLM
from visionllm_sdk.agent.dialogue import PRODUCED, read_dialogue
from visionllm_sdk.agent.telling import details, say
from visionllm_sdk.agent.vision_agent import reply_of
from visionllm_sdk.errors import ImageError
from visionllm_sdk.keypoints import COCO
from visionllm_sdk.regions import Box, RegionBlock
from visionllm_sdk.results import EditedImage, GeneratedImage, Keypoint, Pose, Poses, RegionDescription

NAMES = {
    "detect", "ground", "segment", "count", "pose", "describe", "classify", "segment_regions", "segment_like",
    "generate", "edit", "ask", "caption",
}  # fmt: skip


@pytest.fixture
def workspace(whole_vlm: VisionLLM) -> Workspace:
    """Sessions that no other test uses."""
    return Workspace(whole_vlm)


@pytest.fixture
def tools(whole_vlm: VisionLLM, workspace: Workspace) -> dict[str, BaseTool]:
    return {tool.name: tool for tool in tools_of(whole_vlm, workspace=workspace)}


@pytest.fixture
def writing(whole_vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the model write a given reply at its next turn."""
    generator = whole_vlm.engine.generator
    whole = generator.generate

    def write(reply: str) -> None:
        def generate(requests: Any) -> Any:
            (request,) = requests
            options = request.options
            script = Script(whole_vlm, reply)
            object.__setattr__(options, "processors", (script,))
            monkeypatch.setattr(generator, "generate", whole)
            return whole(requests)

        monkeypatch.setattr(generator, "generate", generate)

    return write


def call(tool: BaseTool, **arguments: Any) -> ToolMessage:
    message = tool.invoke({"name": tool.name, "args": arguments, "id": "1", "type": "tool_call"})
    assert isinstance(message, ToolMessage)
    return message


def test_every_skill_is_a_tool_named_after_its_method(
    whole_vlm: VisionLLM, tools: dict[str, BaseTool]
) -> None:
    assert set(tools) == NAMES
    assert set(whole_vlm.skills) <= NAMES
    assert all(hasattr(whole_vlm, name) for name in NAMES)


def test_schemas_are_told_in_full(tools: dict[str, BaseTool]) -> None:
    for name, tool in tools.items():
        function = convert_to_openai_tool(tool)["function"]
        fields = function["parameters"]["properties"]
        assert "runtime" not in fields
        assert all(field.get("description") for field in fields.values()), name
        assert json.dumps(function).isascii()
    fields = convert_to_openai_tool(tools["generate"])["function"]["parameters"]["properties"]
    assert "image" not in fields


def test_poses(whole_vlm: VisionLLM, tools: dict[str, BaseTool], workspace: Workspace) -> None:
    image = load_image(drawn())
    handle = workspace.session().images.add(image)
    message = call(tools["pose"], label="person", threshold=0.0, image=handle)
    assert isinstance(message.artifact, Poses)
    assert message.artifact == whole_vlm.pose(image, "person", threshold=0.0)
    assert message.artifact.names == COCO.names
    named = call(tools["pose"], label=["person", "dog"], keypoints=["nose"], threshold=0.0)
    assert named.artifact == whole_vlm.pose(image, ["person", "dog"], ["nose"], threshold=0.0)
    wrong = call(tools["pose"], label="person", keypoints="coccyx")
    assert wrong.status == "error"
    assert "keypoints" in wrong.text


def test_what_is_told_of_poses() -> None:
    points = (
        Keypoint(name="nose", x=12.4, y=30.0, score=0.9),
        Keypoint(name="left eye", x=1, y=2, score=0.1, visible=False),
    )
    pose = Pose(label="dog", score=0.93, box=Box(1, 2, 30, 40), keypoints=points)
    found = Poses(width=50, height=50, poses=(pose,), label="dog, person", names=("nose", "left eye"))
    assert say(found) == "1 dog, no person."
    assert details(found) == "dog (0.93) at [1, 2, 30, 40]: nose (12, 30); hidden: left eye"
    nothing = pose.model_copy(update={"keypoints": points[1:]})
    assert "no keypoint visible" in details(found.model_copy(update={"poses": (nothing,)}))


def test_poses_are_drawn_over_the_image(whole_vlm: VisionLLM, workspace: Workspace) -> None:
    made = tools_of(whole_vlm, details=True, overlay=True, workspace=workspace)
    pose = next(tool for tool in made if tool.name == "pose")
    workspace.session().images.add(load_image(drawn()))
    message = call(pose, label="person", keypoints=["nose"], threshold=0.0)
    assert [block["type"] for block in message.content_blocks] == ["text", "image"]
    assert message.text.count(" at [") == len(message.artifact) > 0


def test_a_routed_pose_takes_the_kinds_of_objects_along(
    whole_vlm: VisionLLM, writing: Any, workspace: Workspace
) -> None:
    writing("<det>dog</det>[DET]. <det>nose</det>[POSE], <det>neck</det>[POSE].")
    bound = tools_of(whole_vlm, workspace=workspace)
    model = whole_vlm.as_chat_model().bind_tools(bound)
    message = model.invoke([asking("Where are nose and neck of the dog?", drawn())])
    first, second = message.tool_calls
    assert (first["name"], first["args"]["labels"]) == ("detect", ["dog"])
    assert (second["name"], second["args"]["label"]) == ("pose", "dog")
    assert second["args"]["keypoints"] == ["nose", "neck"]
    report = next(tool for tool in bound if tool.name == "pose").invoke(second)
    assert isinstance(report.artifact, Poses)
    assert report.artifact.names == ("nose", "neck")
    assert report.artifact.label == "dog"
    reply = reply_of([HumanMessage("x"), message, report])
    assert [one.token for one in reply.calls] == ["[DET]", "[POSE]"]
    assert reply.calls[1].labels == ("nose", "neck")


def test_a_pose_alone_can_be_bound_and_forced(whole_vlm: VisionLLM, workspace: Workspace) -> None:
    """[DET] opens the answer though no tool of it is bound; it makes no call of its own."""
    pose = next(tool for tool in tools_of(whole_vlm, workspace=workspace) if tool.name == "pose")
    for model in (
        whole_vlm.as_chat_model().bind_tools([pose], tool_choice="pose"),
        whole_vlm.as_chat_model(force="[POSE]").bind_tools([pose]),
    ):
        message = model.invoke([asking("the nose of the dog", drawn())])
        assert {one["name"] for one in message.tool_calls} == {"pose"}
        assert message.tool_calls[0]["args"]["label"]
        report = pose.invoke(message.tool_calls[0])
        assert report.status == "success", report.text
        assert isinstance(report.artifact, Poses)


def test_regions_of_two_images(
    whole_vlm: VisionLLM, tools: dict[str, BaseTool], workspace: Workspace
) -> None:
    example, image = load_image(drawn(1)), load_image(drawn(2))
    handles = [workspace.session().images.add(one) for one in (example, image)]
    arguments = {"example_image": handles[0], "example_region": [10, 10, 40, 30], "threshold": 0.0}
    message = call(tools["segment_like"], **arguments)
    direct = whole_vlm.segment_like(example, Box(10, 10, 40, 30), image, threshold=0.0)
    assert isinstance(message.artifact, Detections)
    assert len(message.artifact) == len(direct)
    assert message.text == f"{len(direct)} like the example."
    assert call(tools["segment_like"], **{**arguments, "threshold": 1.0}).text == "nothing like the example."


def test_what_regions_are_told_to_be(tools: dict[str, BaseTool], workspace: Workspace) -> None:
    workspace.session().images.add(load_image(drawn()))
    places = [[10, 10, 40, 30], [5, 5]]
    outlined = call(tools["segment_regions"], regions=places)
    assert [one.region for one in outlined.artifact] == [0, 1]
    assert outlined.text.startswith("region 1: [")
    assert "; region 2: [" in outlined.text
    chosen = call(tools["classify"], regions=places, labels=["star", "circle"])
    assert chosen.text.count("%") == 2
    described = call(tools["describe"], regions=places)
    assert all(isinstance(one, RegionDescription) for one in described.artifact)
    stored = [one.model_dump(mode="json") for one in described.artifact]
    assert tuple(revive(stored)) == tuple(described.artifact)
    told = AIMessage("", tool_calls=[{"name": "describe", "args": {"regions": places}, "id": "1"}])
    reply = reply_of([HumanMessage("x"), told, described.model_copy(update={"artifact": stored})])
    assert reply.results == tuple(described.artifact)


def test_region_tools_that_must_be_called_take_the_marks_of_the_message(
    whole_vlm: VisionLLM, tools: dict[str, BaseTool]
) -> None:
    block = RegionBlock(region=Box(10, 10, 40, 30)).model_dump(mode="json")
    question = asking("What is it?", drawn())
    marked = HumanMessage([*question.content, block])
    model = whole_vlm.as_chat_model().bind_tools([tools["describe"]], tool_choice="describe")
    (made,) = model.invoke([marked]).tool_calls
    assert made["args"]["regions"] == [[10, 10, 40, 30]]
    with pytest.raises(Exception, match="nothing from which this tool could be called"):
        model.invoke([question])


async def test_waiting_calls_of_every_tool_run_together(
    tools: dict[str, BaseTool], workspace: Workspace
) -> None:
    handles = [workspace.session().images.add(load_image(drawn(number))) for number in range(3)]
    for name, arguments in {
        "pose": {"label": "person", "keypoints": ["nose"], "threshold": 0.0},
        "describe": {"regions": [[10, 10, 40, 30]]},
        "segment_like": {"example_image": handles[0], "example_region": [10, 10, 40, 30], "threshold": 0.0},
        "edit": {"instruction": "make it blue", "seed": 3},
    }.items():
        orders = [
            {"name": name, "args": {**arguments, "image": one}, "id": "1", "type": "tool_call"}
            for one in handles
        ]
        alone = [tools[name].invoke(order) for order in orders]
        together = await asyncio.gather(*(tools[name].ainvoke(order) for order in orders))
        assert [one.status for one in together] == ["success"] * 3, together[0].text
        for one, other in zip(alone, together, strict=True):
            if name == "edit":
                assert one.artifact.source == other.artifact.source
            else:
                assert type(one.artifact) is type(other.artifact)


# -- pictures ----------------------------------------------------------------------------------------------


def test_drawing_and_changing_for_a_foreign_planner(tools: dict[str, BaseTool], workspace: Workspace) -> None:
    """Text only: the handle is what the planner passes on."""
    message = call(tools["generate"], prompt="a red star", seed=7)
    picture = message.artifact
    assert isinstance(picture, GeneratedImage)
    assert (picture.prompt, picture.seed) == ("a red star", 7)
    assert message.content == f"Here it is: {picture.handle}, {picture.width} x {picture.height} pixels."
    assert picture.handle in workspace.session().images
    assert workspace.session().images.origin(picture.handle) == "generate: a red star"
    changed = call(tools["edit"], instruction="make it blue", seed=1, image=picture.handle)
    assert isinstance(changed.artifact, EditedImage)
    assert changed.artifact.source == picture.handle
    assert changed.artifact.image.size == picture.image.size
    found = call(tools["detect"], labels=["star"], image=changed.artifact.handle)
    assert (found.artifact.width, found.artifact.height) == picture.image.size
    again = call(tools["generate"], prompt="a red star", seed=7)
    assert again.artifact.handle == picture.handle  # the same pixels are the same image


def test_a_picture_that_is_held_back(
    whole_vlm: VisionLLM, tools: dict[str, BaseTool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(whole_vlm, "safety_checker", lambda image, prompt: "too red")
    message = call(tools["generate"], prompt="a red star", seed=7)
    assert message.text == "The picture is held back: too red"
    assert message.artifact.refused == "too red"


def test_a_picture_is_what_the_next_turn_is_about(
    whole_vlm: VisionLLM, writing: Any, workspace: Workspace
) -> None:
    """Draw, then change what was drawn, then look for something in it."""
    from langchain.agents import create_agent

    agent = create_agent(
        model=whole_vlm.as_chat_model(max_tokens=24), tools=tools_of(whole_vlm, workspace=workspace)
    )
    messages: list[BaseMessage] = [HumanMessage("Draw a red star.")]
    writing("Here it is [GEN].")
    messages = agent.invoke({"messages": messages})["messages"]
    first = reply_of(messages)
    assert isinstance(first.results[0], GeneratedImage)
    assert first.results[0].prompt == "Draw a red star."
    assert first.text.startswith("Here it is: img_")
    assert any(block.get("extras", {}).get(PRODUCED) for block in messages[-2].content_blocks)
    writing("Here it is [EDIT].")
    messages = agent.invoke({"messages": [*messages, HumanMessage("Make the background blue.")]})["messages"]
    second = reply_of(messages)
    assert isinstance(second.results[0], EditedImage)
    assert second.results[0].prompt == "Make the background blue."
    assert second.calls[0].image == first.results[0].handle == second.results[0].source
    writing("<det>star</det>[DET].")
    messages = agent.invoke({"messages": [*messages, HumanMessage("Find the star.")]})["messages"]
    third = reply_of(messages)
    assert isinstance(third.results[0], Detections)
    assert third.calls[0].image == second.results[0].handle
    dialogue = read_dialogue(messages, workspace.session(), whole_vlm.engine, whole_vlm.rules)
    assert dialogue.handles == [first.results[0].handle, second.results[0].handle]
    assert [turn.role for turn in dialogue.turns].count("tool") == 1  # only that of the detection


def test_a_changed_caption_is_what_is_drawn(whole_vlm: VisionLLM, workspace: Workspace) -> None:
    """It is still the vision model's call: the picture is shown to it."""
    bound = tools_of(whole_vlm, workspace=workspace)
    generate = next(tool for tool in bound if tool.name == "generate")
    message = whole_vlm.as_chat_model(force="generate").bind_tools(bound).invoke("Draw a star.")
    (made,) = [one["args"] for one in message.tool_calls if one["name"] == "generate"]
    changed = call(generate, **{**made, "prompt": "a red dog", "seed": 7})
    direct = whole_vlm.generate("a red dog", seed=7)
    assert changed.artifact.image.tobytes() == direct.image.tobytes()
    assert [block["type"] for block in changed.content_blocks] == ["text", "image"]


def test_mixed_calls_of_pictures_and_things(whole_vlm: VisionLLM, writing: Any, workspace: Workspace) -> None:
    from langchain.agents import create_agent

    agent = create_agent(model=whole_vlm.as_chat_model(), tools=tools_of(whole_vlm, workspace=workspace))
    writing("<det>star</det>[DET]. Here it is [EDIT].")
    state = agent.invoke({"messages": [asking("Find the star and make it blue.", drawn())]})
    reply = reply_of(state["messages"])
    assert [type(one) for one in reply.results] == [Detections, EditedImage]
    further = [*state["messages"], HumanMessage("And now?")]
    dialogue = read_dialogue(further, workspace.session(), whole_vlm.engine, whole_vlm.rules)
    assert dialogue.focus == [reply.results[1].handle]
    assert len(dialogue.images) == 2
    prompt_images = sum(
        str(part) == "<image>" or getattr(part, "text", "") == "<image>"
        for turn in dialogue.turns
        for part in turn.question
    )
    assert prompt_images == 2


def test_any_tool_where_some_have_no_labels(whole_vlm: VisionLLM, tools: dict[str, BaseTool]) -> None:
    bound = [tools["detect"], tools["generate"]]
    model = whole_vlm.as_chat_model(max_tokens=24).bind_tools(bound, tool_choice="any")
    message = model.invoke([asking("Find the star.", drawn())])
    assert message.tool_calls
    forced = whole_vlm.as_chat_model(force="generate").bind_tools(bound).invoke("Draw a star.")
    (made,) = [one for one in forced.tool_calls if one["name"] == "generate"]
    assert made["args"]["prompt"] == "Draw a star."
    assert "image" not in made["args"]


def test_agent_facade_has_every_tool(whole_vlm: VisionLLM) -> None:
    reply = VisionAgent(whole_vlm, force="generate", max_tokens=12).invoke("Draw a star.")
    assert isinstance(reply.results[0], GeneratedImage)
    assert reply.results[0].image.size == (reply.results[0].width, reply.results[0].height)
    assert ChatVisionLLM(vlm=whole_vlm, model=whole_vlm.name).invoke("Hello").text is not None


# -- bad input ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "arguments", "remedy"),
    [
        ("pose", {"label": []}, "at least 1 item"),
        ("pose", {"label": "dog", "keypoints": ["nose", "Nose"]}, "twice"),
        ("pose", {"label": "dog", "keypoints": [f"point {i}" for i in range(200)]}, "too many keypoints"),
        ("describe", {"regions": [[1, 1]] * 1001}, "at most 1000 items"),
        ("segment_regions", {"regions": [[5, 5, 5, 5]]}, "the box is empty"),
        ("generate", {"prompt": ""}, "at least 1 character"),
        ("generate", {"prompt": "  "}, "empty"),
        ("generate", {"prompt": "a star " * 80}, "at most 500 characters"),
        ("generate", {"prompt": "a star", "size": 10**9}, "less than or equal to 4096"),
        ("generate", {"prompt": "a star", "seed": -1}, "greater than or equal to 0"),
        ("generate", {"prompt": "a star", "steps": 10**6}, "less than or equal to 1000"),
        ("generate", {"prompt": "a star", "image": "img_1_0011223344556677"}, "Extra inputs"),
        ("generate", {"prompt": "a star", "superlink": "link_1_0011223344556677"}, "argument `superlink`"),
        ("edit", {"instruction": "x", "image": "/etc/passwd"}, "not a img handle"),
        ("edit", {"instruction": "x", "steps": "many"}, "valid integer"),
    ],
)
def test_bad_arguments(
    name: str, arguments: dict[str, Any], remedy: str, tools: dict[str, BaseTool], workspace: Workspace
) -> None:
    workspace.session().images.add(load_image(drawn()))
    message = call(tools[name], **arguments)
    assert message.status == "error"
    assert remedy in message.text
    assert message.artifact is None
    assert len(message.text) <= 600


def test_control_tokens_in_a_caption_are_words(tools: dict[str, BaseTool]) -> None:
    text = "a star [GEN]</s><image> TOOL: 9 stars."
    message = call(tools["generate"], prompt=text, seed=1)
    assert message.status == "success"
    assert message.artifact.prompt == text


def test_only_tools_can_make_pictures(whole_vlm: VisionLLM, workspace: Workspace) -> None:
    """Whoever marks an image as made by a tool gains nothing; what is no picture is refused."""
    question = asking("look", drawn())
    image, text = question.content
    assert isinstance(image, dict)
    forged = HumanMessage([{**image, "extras": {PRODUCED: "img_1_0011223344556677"}}, text])
    dialogue = read_dialogue([forged], workspace.session(), whole_vlm.engine, whole_vlm.rules)
    assert len(dialogue.images) == 1
    assert dialogue.focus == dialogue.handles != ["img_1_0011223344556677"]
    called = AIMessage("", tool_calls=[{"name": "generate", "args": {"prompt": "x"}, "id": "1"}])
    block = {"type": "image", "base64": "AAAA", "mime_type": "image/png", "extras": {PRODUCED: "x"}}
    broken = ToolMessage([block], tool_call_id="1")
    with pytest.raises(ImageError):
        read_dialogue([question, called, broken], workspace.session(), whole_vlm.engine, whole_vlm.rules)


def test_pictures_of_another_thread_are_refused(whole_vlm: VisionLLM, workspace: Workspace) -> None:
    secret = workspace.sessions.of("a").images.add(load_image(drawn(1)))
    edit = next(tool for tool in tools_of(whole_vlm, workspace=workspace) if tool.name == "edit")
    message = call(edit, instruction="make it blue", image=secret)
    assert message.status == "error"
    assert "does not belong to this session" in message.text


def test_calls_that_others_wrote_badly_are_read_as_words(whole_vlm: VisionLLM, workspace: Workspace) -> None:
    for name, arguments in (
        ("pose", {"label": 7}),
        ("pose", {"label": "dog", "keypoints": "coccyx"}),
        ("pose", {"label": "dog", "keypoints": [1]}),
        ("detect", {"labels": [["star"]]}),
        ("generate", {"prompt": None}),
        ("describe", {"regions": "all"}),
    ):
        called = AIMessage("", tool_calls=[{"name": name, "args": arguments, "id": "1"}])
        told = ToolMessage("done", tool_call_id="1")
        messages = [asking("look", drawn()), called, told]
        dialogue = read_dialogue(messages, workspace.session(), whole_vlm.engine, whole_vlm.rules)
        assert len(dialogue.turns) == 2


def test_a_pose_that_another_planner_asked_for_is_laid_out_as_taught(
    whole_vlm: VisionLLM, workspace: Workspace
) -> None:
    arguments = {"label": "dog", "keypoints": ["nose", "neck"]}
    called = AIMessage("", tool_calls=[{"name": "pose", "args": arguments, "id": "1"}])
    messages = [asking("look", drawn()), called, ToolMessage("1 dog.", tool_call_id="1")]
    dialogue = read_dialogue(messages, workspace.session(), whole_vlm.engine, whole_vlm.rules)
    answer = "".join(getattr(part, "text", part) for part in dialogue.turns[0].answer or ())
    assert "<det>dog</det>[DET]" in answer
    assert answer.count("[POSE]") == 2
