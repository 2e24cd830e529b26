from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command, interrupt
from pydantic import BaseModel

from tests.sdk.agent.conftest import asking, drawn
from visionllm_sdk import Detections, Reply, VisionAgent, VisionLLM, revive
from visionllm_sdk.agent import Workspace, tools_of
from visionllm_sdk.agent.sessions import Sessions
from visionllm_sdk.agent.vision_agent import image_block, reply_of
from visionllm_sdk.errors import ArtifactError, GenerationCancelled, ImageError, InputError, RegionError
from visionllm_sdk.handles import HandleLimits
from visionllm_sdk.images import load_image
from visionllm_sdk.regions import Box, Point, RegionBlock

FORCED: dict[str, Any] = {"force": "detect", "max_tokens": 20}


def thread(name: str) -> RunnableConfig:
    return {"configurable": {"thread_id": name}}


def close(first: Any, second: Any) -> bool:
    """Equal but for the rounding of sums that were added in another order."""
    same = len(first) == len(second) > 0 and first.labels == second.labels
    return same and all(
        abs(one.score - other.score) < 1e-3
        and max(abs(a - b) for a, b in zip(one.box.xyxy, other.box.xyxy, strict=True)) < 0.1
        for one, other in zip(first, second, strict=True)
    )


def test_three_lines(random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm, **FORCED)
    reply = agent.invoke("Find the star.", images=[drawn()])
    assert isinstance(reply, Reply)
    call = reply.calls[0]
    assert (call.token, call.tool) == ("[DET]", "detect")
    assert isinstance(call.result, Detections)
    assert call.result.labels == call.labels
    assert 0 < call.probability < 1
    assert call.alternatives
    assert reply.probability is None or 0 < reply.probability <= 1  # None: there was one way to say it
    assert reply.usage is not None
    assert reply.usage.image_tokens == 2 * random_vlm.engine.model.core.tokens_per_tile  # two turns
    assert revive(reply.model_dump(mode="json")) == reply


def test_the_agent_is_pointed_at_regions_as_the_model_is(random_vlm: VisionLLM) -> None:
    text, regions = "Find <region1> and <region2>.", [Box(4, 4, 30, 30), Point(9, 9)]
    agent = VisionAgent(random_vlm, **FORCED)
    reply = agent.invoke(text, images=drawn(), regions=regions)
    blocks: list[Any] = [RegionBlock(region=one) for one in regions]
    content = [image_block(load_image(drawn())), *(block.model_dump(mode="json") for block in blocks)]
    by_message = agent.invoke([HumanMessage([*content, {"type": "text", "text": text}])])
    assert close(reply.calls[0].result, by_message.calls[0].result)
    assert reply.usage == by_message.usage
    assert reply.usage != agent.invoke("Find them.", images=drawn()).usage
    assert agent.invoke({"text": text, "images": drawn(), "regions": blocks}).usage == reply.usage
    assert list(agent.stream(text, images=drawn(), regions=regions))[-1].usage == reply.usage


@pytest.mark.parametrize(
    ("regions", "error", "message"),
    [
        (Point(500, 9), RegionError, "outside"),
        ([Point(9, 9), "box"], InputError, "region 1"),
        ([Point(9, 9), Point(9, 9)], InputError, "each of its regions"),
    ],
)
def test_regions_that_do_not_fit_are_named(
    random_vlm: VisionLLM, regions: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        VisionAgent(random_vlm).invoke("What is <region>?", images=drawn(), regions=regions)


def test_images_beside_messages_are_not_dropped_in_silence(random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm)
    with pytest.raises(InputError, match="1 images and 0 regions beside messages"):
        agent.invoke([HumanMessage("What is this?")], images=[drawn()])


def test_the_agent_sees_what_the_direct_call_sees(random_vlm: VisionLLM) -> None:
    reply = VisionAgent(random_vlm, **FORCED).invoke("Find the star.", images=[drawn()])
    direct = random_vlm.detect(drawn(), list(reply.calls[0].labels))
    chosen = tools_of(random_vlm)[0]
    by_labels = chosen.invoke(
        {"name": "detect", "args": {"labels": list(reply.calls[0].labels)}, "id": "1", "type": "tool_call"}
    )
    assert isinstance(by_labels, ToolMessage)
    assert (direct.width, direct.height) == (72, 56)
    assert isinstance(reply.calls[0].result, Detections)


@pytest.mark.parametrize(
    "given",
    [
        {"text": "Find the star.", "images": [drawn()]},
        [asking("Find the star.", drawn())],
    ],
)
def test_as_a_runnable(given: Any, random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm, **FORCED)
    first = agent.invoke(given)
    assert first.calls
    (text,) = (agent | (lambda reply: reply.text)).batch([given])
    assert text == first.text
    steps = list(agent.stream(given))
    assert [bool(step.results) for step in steps] == [False, True, True]
    assert steps[-1].text == first.text


async def test_conversations_at_once_are_not_mixed(random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm, **FORCED)
    pictures = [drawn(number, width=60 + 8 * number) for number in range(6)]
    replies = await asyncio.gather(*(agent.ainvoke("Find the star.", images=[one]) for one in pictures))
    handles = {reply.calls[0].image for reply in replies}
    assert len(handles) == len(pictures)
    for picture, reply in zip(pictures, replies, strict=True):
        (result,) = reply.results
        assert isinstance(result, Detections)
        assert (result.width, result.height) == picture.size
        alone = agent.invoke("Find the star.", images=[picture])
        assert close(alone.results[0], result)


async def test_one_bad_conversation_costs_the_others_nothing(
    random_vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A picture that cannot be read and a time limit are outcomes of their own; nothing is computed twice."""
    sizes: list[int] = []
    generator = random_vlm.engine.generator
    whole = generator.generate
    monkeypatch.setattr(
        generator, "generate", lambda requests: sizes.append(len(requests)) or whole(requests)
    )
    model = random_vlm.as_chat_model(max_tokens=4)
    broken = [{"type": "image", "base64": "AAAA", "mime_type": "image/png"}]
    replies = await asyncio.gather(
        model.ainvoke([asking("first", drawn(1))]),
        model.ainvoke([HumanMessage(broken)]),  # type: ignore[arg-type]
        model.ainvoke([asking("second", drawn(2))], timeout=1e-9),
        model.ainvoke([asking("third", drawn(3))]),
        return_exceptions=True,
    )
    assert [type(one) for one in replies] == [AIMessage, ImageError, GenerationCancelled, AIMessage]
    assert sum(sizes) == 3


async def test_conversations_at_once_share_batches(
    random_vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sixteen conversations take a few passes, not sixteen times as many."""
    passes: list[int] = []
    engine = random_vlm.engine
    whole, run = engine.generator.generate, engine.run
    monkeypatch.setattr(
        engine.generator, "generate", lambda requests: passes.append(len(requests)) or whole(requests)
    )
    monkeypatch.setattr(engine, "run", lambda jobs: passes.append(len(jobs)) or run(jobs))
    agent = VisionAgent(random_vlm, **FORCED)
    replies = await asyncio.gather(*(agent.ainvoke("star", images=[drawn(n, 60 + n)]) for n in range(16)))
    assert sum(passes) >= 2 * 16  # the call and the tool; last words, where untrained weights have any
    assert len(passes) <= 12
    assert [one.results[0].width for one in replies] == [60 + n for n in range(16)]  # type: ignore[attr-defined]


def test_threads_are_continued(random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm, checkpointer=InMemorySaver(), **FORCED)
    first = agent.invoke("Find the star.", thread("a"), images=[drawn()])
    second = agent.invoke("And the circle?", thread("a"))
    assert second.calls[0].image == first.calls[0].image
    assert second.usage is not None
    assert first.usage is not None
    assert second.usage.input_tokens > first.usage.input_tokens
    other = agent.invoke("And the circle?", thread("b"))
    assert other.calls[0].result is None  # there is no image in this thread
    assert "no image in this conversation" in other.text


def test_bad_input(random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm, **FORCED)
    with pytest.raises(InputError, match="empty"):
        agent.invoke("  ", images=[drawn()])
    with pytest.raises(ImageError, match="image 1"):
        agent.invoke("Find the star.", images=[drawn(), b"no image"])
    with pytest.raises(InputError, match="a text with images"):
        agent.invoke({"text": "x", "pictures": []})


def test_what_chains_pass_on(random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm, **FORCED)
    prompt = ChatPromptTemplate.from_messages([("human", "{q}")])
    told = (prompt | agent).invoke({"q": "Find the star."})
    message = HumanMessage("Find the star.")
    for given in (message, [message], (message,), {"messages": [message]}):
        assert agent.invoke(given).text == told.text
    with pytest.raises(InputError, match="beside messages"):
        agent.invoke(message, images=[drawn()])
    with pytest.raises(InputError, match="not text"):
        agent.invoke(7)  # type: ignore[arg-type]


async def test_a_thread_that_waits_goes_on(random_vlm: VisionLLM) -> None:
    @tool
    def get_weather(location: str) -> str:
        """Get the weather at a location."""
        return f"It is {interrupt('What is the weather?')} in {location}."

    agent = VisionAgent(random_vlm, tools=[get_weather], max_tokens=20, checkpointer=InMemorySaver())
    agent.invoke("What is the weather in Rome?", thread("a"))
    assert agent.invoke(Command(resume="sunny"), thread("a")).text == "It is sunny in Rome."
    agent.invoke("What is the weather in Rome?", thread("b"))
    assert (await agent.ainvoke(Command(resume="wet"), thread("b"))).text == "It is wet in Rome."
    with pytest.raises(InputError, match="beside messages"):
        agent.invoke(None, thread("b"), images=[drawn()])


def test_tools_of_others_in_the_agent(random_vlm: VisionLLM) -> None:
    @tool
    def get_weather(location: str) -> str:
        """Get the weather at a location."""
        return f"It is sunny in {location}."

    reply = VisionAgent(random_vlm, tools=[get_weather], max_tokens=20).invoke("What is the weather in Rome?")
    assert reply.text == "It is sunny in Rome."
    assert [(call.tool, call.result) for call in reply.calls] == [("get_weather", None)]


def test_agents_with_a_response_format_come_to_their_end(random_vlm: VisionLLM) -> None:
    class Weather(BaseModel):
        """The weather in a city."""

        city: str
        degrees: int

    @tool
    def get_weather(city: str) -> str:
        """Get the weather in a city."""
        return f"It is 21 degrees in {city}."

    agent: Any = create_agent(
        random_vlm.as_chat_model(max_tokens=20), tools=[get_weather], response_format=Weather
    )
    question = {"messages": [HumanMessage("What is the weather in Paris?")]}
    state = agent.invoke(question, {"recursion_limit": 6})
    assert state["structured_response"].city == "Paris"
    calls = [call for one in state["messages"] if isinstance(one, AIMessage) for call in one.tool_calls]
    assert [call["name"] for call in calls] == ["get_weather", "Weather"]


def test_what_tools_of_others_pass_on_is_theirs() -> None:
    """Their artifacts stay in their messages, and their arguments mean what they say."""
    foreign: list[tuple[dict[str, Any], Any]] = [
        ({"labels": ["star"], "image": "cover.png"}, {"type": "stock"}),
        ({"label": 7}, [{"item": 1}]),
        ({"image": 7, "superlink": 7, "prompt": {}}, None),
    ]
    for arguments, artifact in foreign:
        told = AIMessage("", tool_calls=[{"name": "archive", "args": arguments, "id": "1"}])
        report = ToolMessage("done", tool_call_id="1", artifact=artifact)
        (call,) = reply_of([HumanMessage("x"), told, report, AIMessage("ok")]).calls
        assert (call.tool, call.labels, call.image, call.result) == ("archive", (), None, None)


@pytest.mark.parametrize(
    "arguments", [{"labels": 5}, {"labels": [5], "image": 7}, {"superlink": [], "label": {}}]
)
def test_own_tools_that_a_planner_called_badly(arguments: dict[str, Any]) -> None:
    told = AIMessage("", tool_calls=[{"name": "detect", "args": arguments, "id": "1"}])
    report = ToolMessage("The arguments do not fit.", tool_call_id="1", status="error")
    (call,) = reply_of([HumanMessage("x"), told, report]).calls
    assert (call.tool, call.labels, call.image, call.superlink) == ("detect", (), None, None)


async def test_runs_do_not_push_one_another_out(
    random_vlm: VisionLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More conversations at once than there are sessions, of more images than a session keeps."""
    sessions = Sessions(max_sessions=1, limits=HandleLimits(max_bytes=72 * 56 * 3))
    monkeypatch.setattr(random_vlm.workspace, "sessions", sessions)
    agent = VisionAgent(random_vlm, **FORCED)
    images = [drawn(1), drawn(2)]
    replies = await asyncio.gather(*(agent.ainvoke("star", images=images) for _ in range(2)))
    *_, last = agent.stream("star", images=images)
    for reply in (*replies, last, agent.invoke("star", images=images)):
        assert len({call.image for call in reply.calls}) == 2
        assert all(isinstance(result, Detections) for result in reply.results)


# -- stores ------------------------------------------------------------------------------------------------


def agent_over(vlm: VisionLLM, saver: Any, **settings: Any) -> Any:
    workspace = Workspace(vlm)  # as in a new process: nothing is known
    return create_agent(
        model=vlm.as_chat_model(**FORCED),
        tools=tools_of(vlm, workspace=workspace),
        checkpointer=saver,
        **settings,
    )


def test_killed_between_call_and_result(random_checkpoint: Path, tmp_path: Path) -> None:
    """A new process, a new model, a new connection: the same result as if nothing had happened."""
    path = str(tmp_path / "threads.db")
    question = {"messages": [asking("Find the star.", drawn())]}
    first = VisionLLM.from_pretrained(random_checkpoint)
    with SqliteSaver.from_conn_string(path) as saver:
        stopped = agent_over(first, saver, interrupt_before=["tools"]).invoke(question, thread("a"))
        assert stopped["messages"][-1].tool_calls[0]["args"]["superlink"].startswith("link_")
    second = VisionLLM.from_pretrained(random_checkpoint)
    with SqliteSaver.from_conn_string(path) as saver:
        resumed = reply_of(agent_over(second, saver).invoke(None, thread("a"))["messages"])
    third = VisionLLM.from_pretrained(random_checkpoint)
    with SqliteSaver.from_conn_string(path) as saver:
        undisturbed = reply_of(agent_over(third, saver).invoke(question, thread("b"))["messages"])
        stored = agent_over(third, saver).get_state(thread("b")).values["messages"]
    assert resumed.results == undisturbed.results
    assert resumed.text == undisturbed.text
    assert isinstance(stored[-2].artifact, dict)
    assert reply_of(stored) == undisturbed


def test_tampered_artifacts_are_refused(random_vlm: VisionLLM) -> None:
    reply = VisionAgent(random_vlm, **FORCED).invoke("Find the star.", images=[drawn()])
    artifact = reply.calls[0].result.model_dump(mode="json")  # type: ignore[union-attr]
    call = AIMessage(
        "", tool_calls=[{"name": "detect", "args": {"labels": ["star"]}, "id": "1", "type": "tool_call"}]
    )

    def told(data: Any) -> list[Any]:
        return [
            HumanMessage("x"),
            call,
            ToolMessage("1 star.", tool_call_id="1", artifact=data),
            AIMessage("ok"),
        ]

    assert reply_of(told(artifact)).calls[0].result == reply.calls[0].result
    for change in ({"width": -5}, {"type": "os.system"}, {"extra": 1}, {"detections": [{"type": "box"}]}):
        with pytest.raises(ArtifactError):
            reply_of(told({**artifact, **change}))
    assert reply_of(told({"somebody": "else's"})).calls[0].result is None


@pytest.mark.parametrize(
    "change", [{"probability": 7}, {"labels": 5}, {"token": None}, {"alternatives": [{"token": 3}]}]
)
def test_tampered_decisions_are_refused(change: dict[str, Any], random_vlm: VisionLLM) -> None:
    decision = {
        "tool": "detect",
        "labels": ["star"],
        "token": "[DET]",
        "probability": 0.5,
        "alternatives": [],
    }
    told = {"model_provider": "visionllm", "probability": 0.25}
    reply = reply_of([AIMessage("ok", response_metadata={**told, "routing": [decision]})])
    assert reply.probability == 0.25
    message = AIMessage(
        "ok",
        response_metadata={**told, "routing": [{**decision, **change}]},
        tool_calls=[{"name": "detect", "args": {"labels": ["star"]}, "id": "1", "type": "tool_call"}],
    )
    with pytest.raises(ArtifactError, match="routing decision was changed"):
        reply_of([message])


def test_tampered_recipes_are_refused(random_vlm: VisionLLM) -> None:
    workspace = Workspace(random_vlm)
    graph = create_agent(
        model=random_vlm.as_chat_model(**FORCED),
        tools=tools_of(random_vlm, workspace=workspace),
        checkpointer=InMemorySaver(),
        interrupt_before=["tools"],
    )
    state = graph.invoke({"messages": [asking("Find the star.", drawn())]}, thread("a"))
    message = state["messages"][-1]
    message.response_metadata["recipe"]["reply"][0] += 1
    workspace.sessions.of("a").links.clear()
    graph.update_state(thread("a"), {"messages": [message]})
    graph.invoke(None, thread("a"))
    report = graph.get_state(thread("a")).values["messages"][-2]
    assert report.status == "error"
    assert "superlink" in report.content


def test_expired_links_are_computed_again(random_vlm: VisionLLM) -> None:
    workspace = Workspace(random_vlm)
    graph = create_agent(
        model=random_vlm.as_chat_model(**FORCED),
        tools=tools_of(random_vlm, workspace=workspace),
        checkpointer=InMemorySaver(),
        interrupt_before=["tools"],
    )
    for name, forget in (("a", False), ("b", True)):
        graph.invoke({"messages": [asking("Find the star.", drawn())]}, thread(name))
        if forget:
            workspace.sessions.of(name).links.clear()
            workspace.sessions.of(name).images.clear()
        graph.invoke(None, thread(name))
    kept, made_again = (reply_of(graph.get_state(thread(name)).values["messages"]) for name in "ab")
    assert close(kept.results[0], made_again.results[0])


async def test_streams_of_both_kinds_grow_alike(random_vlm: VisionLLM) -> None:
    agent = VisionAgent(random_vlm, **FORCED)
    once = [len(reply.calls) for reply in agent.stream("Find the star.", images=[drawn()])]
    again = [len(reply.calls) async for reply in agent.astream("Find the star.", images=[drawn()])]
    assert once == again
    assert len(once) > 1


def test_settings_that_an_agent_does_not_have(random_vlm: VisionLLM) -> None:
    with pytest.raises(InputError, match=r"VisionAgent: setting `response_format`.*create_agent"):
        VisionAgent(random_vlm, response_format=Detections)
    agent = VisionAgent(random_vlm, **FORCED)
    for run in (agent.invoke, lambda *given, **more: next(agent.stream(*given, **more))):
        with pytest.raises(InputError, match=r"`stream_mode`.*agent\.graph"):
            run("Find the star.", images=[drawn()], stream_mode="messages")


def test_middleware_sees_the_run(random_vlm: VisionLLM) -> None:
    class Listener(AgentMiddleware[Any, Any]):
        def __init__(self) -> None:
            self.turns = 0

        def before_model(self, state: Any, runtime: Any) -> None:
            self.turns += 1

    listener = Listener()
    VisionAgent(random_vlm, middleware=[listener], **FORCED).invoke("Find the star.", images=[drawn()])
    assert listener.turns == 2


def test_results_drawn_over_an_image_are_no_more_to_see(vlm: VisionLLM) -> None:
    agent = create_agent(vlm.as_chat_model(), tools_of(vlm, overlay=True))
    state = agent.invoke({"messages": [asking("Find the red circle.", drawn(1))]})
    assert state["messages"][-1].text.startswith("I found the red circle")
