from __future__ import annotations

import json
import time
from typing import Any, Literal

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage, ToolMessage
from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_core.runnables import ConfigurableField, Runnable, RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel, Field

from tests.sdk.agent.conftest import asking, drawn
from visionllm_sdk import VisionLLM
from visionllm_sdk.agent import ChatVisionLLM, Workspace, tools_of
from visionllm_sdk.errors import GenerationCancelled, InputError, LimitError
from visionllm_sdk.images import load_image


@pytest.fixture
def chat(random_vlm: VisionLLM) -> ChatVisionLLM:
    return random_vlm.as_chat_model(max_tokens=24)


@tool
def get_weather(location: str) -> str:
    """Get the weather at a location."""
    return f"It is sunny in {location}."


@tool
def add(first: int, second: int) -> str:
    """Add two numbers."""
    return str(first + second)


class Inspection(BaseModel):
    """What is wrong with a part."""

    part: str
    count: int = Field(ge=0, le=20, description="How many stars are there?")
    colour: Literal["red", "blue"] = Field(description="What colour is the circle?")
    broken: bool = Field(description="Is there a crack?")
    note: str | None = None


def called(model: Runnable[Any, AIMessage], *messages: Any) -> tuple[str, dict[str, Any]]:
    """The only tool call of a reply."""
    (call,) = model.invoke(list(messages)).tool_calls
    return call["name"], call["args"]


def roughly(value: Any) -> Any:
    """`value` with every number in it, however deep, to be compared to rounding."""
    if isinstance(value, dict):
        return {key: roughly(one) for key, one in value.items()}
    if isinstance(value, list):
        return [roughly(one) for one in value]
    return pytest.approx(value, rel=1e-4) if isinstance(value, float) else value


@pytest.mark.parametrize("name", ["detect", "ground", "segment", "count"])
def test_forced_skills_are_routed(name: str, chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    model = chat.bind_tools(random_vlm.tools, tool_choice=name)
    message = model.invoke([asking("find the star", drawn(1))])
    assert {call["name"] for call in message.tool_calls} == {name}
    arguments = message.tool_calls[0]["args"]
    session = random_vlm.workspace.session()
    assert session.images.get(arguments["image"]).to_numpy().shape == (56, 72, 3)
    assert session.links.get(arguments["superlink"]).super_links
    entry = message.response_metadata["routing"][0]
    assert entry["tool"] == name
    assert entry["token"] == {"ground": "[GRD]", "segment": "[SEG]"}.get(name, "[DET]")
    assert 0 < entry["probability"] <= 1
    assert entry["logprob"] <= 0
    assert entry["alternatives"]
    assert message.response_metadata["finish_reason"] == "tool_calls"
    tools = {one.name: one for one in random_vlm.tools}
    result = tools[name].invoke(message.tool_calls[0])
    assert result.status == "success"


@pytest.mark.parametrize(("name", "arguments"), [("ask", {"question": "what is it?"}), ("caption", {})])
def test_forced_words(
    name: str, arguments: dict[str, Any], chat: ChatVisionLLM, random_vlm: VisionLLM
) -> None:
    model = chat.bind_tools(random_vlm.tools, tool_choice=name)
    found, given = called(model, asking("what is it?", drawn()))
    image = given.pop("image")
    assert (found, given) == (name, arguments)
    assert image.startswith("img_")


@pytest.mark.parametrize("settings", [{"forbid": ["detect", "[GRD]", "segment"]}, {"tool_choice": "none"}])
def test_what_is_forbidden_does_not_happen(
    settings: dict[str, Any], chat: ChatVisionLLM, random_vlm: VisionLLM
) -> None:
    message = chat.bind_tools(random_vlm.tools, **settings).invoke([asking("find the star", drawn())])
    assert message.tool_calls == []
    assert message.content


def test_force_at_the_call_and_in_the_settings(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model(max_tokens=24, force="[GRD]")
    calls = model.invoke([asking("the star", drawn())]).tool_calls
    assert {call["name"] for call in calls} == {"ground"}
    assert model.invoke([asking("the star", drawn())], force="segment").tool_calls[0]["name"] == "segment"
    with pytest.raises(InputError, match="forbidden"):
        model.invoke([asking("the star", drawn())], forbid="ground")
    with pytest.raises(InputError, match="no such routing token"):
        model.invoke([asking("the star", drawn())], force="teleport")


def test_any_of_the_skills(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    perceive = [one for one in random_vlm.tools if one.name in ("detect", "segment")]
    assert called(chat.bind_tools(perceive, tool_choice="any"), asking("x", drawn()))[0] in (
        "detect",
        "segment",
    )
    every = chat.bind_tools(random_vlm.tools, tool_choice="required")
    assert every.invoke([asking("what is it?", drawn())]).tool_calls


@pytest.mark.parametrize("choice", ["teleport", {"type": "function", "function": {"name": "teleport"}}])
def test_unknown_choices_are_refused(choice: Any, chat: ChatVisionLLM) -> None:
    with pytest.raises(InputError, match="names no bound tool"):
        chat.bind_tools([get_weather], tool_choice=choice)


def test_tools_of_others_are_chosen_by_the_words_of_the_request(chat: ChatVisionLLM) -> None:
    model = chat.bind_tools([get_weather, add])
    assert called(model, HumanMessage("What is the weather in Rome?")) == (
        "get_weather",
        {"location": "Rome"},
    )
    assert called(model, HumanMessage("add 4 and -2")) == ("add", {"first": 4, "second": -2})
    assert model.invoke("Hello").tool_calls == []
    forced = chat.bind_tools(
        [get_weather, add], tool_choice={"type": "function", "function": {"name": "add"}}
    )
    assert called(forced, HumanMessage("Hello"))[0] == "add"


def test_tools_in_the_flat_form_are_bound_and_services_are_refused(chat: ChatVisionLLM) -> None:
    fields = {"type": "object", "properties": {"a": {"type": "integer"}, "b": True}, "required": ["a"]}
    flat = {"type": "function", "name": "double", "description": "Double a.", "parameters": fields}
    name, arguments = called(chat.bind_tools([flat], tool_choice="any"), HumanMessage("Double 4."))
    assert (name, arguments["a"]) == ("double", 4)
    for service in ({"type": "web_search"}, {"type": "function", "function": {}}, 7):
        with pytest.raises(InputError, match="no tool that the model can call"):
            chat.bind_tools([service])  # type: ignore[list-item]


def test_a_form_about_an_image_of_the_session_that_no_message_shows(random_vlm: VisionLLM) -> None:
    class Stars(BaseModel):
        star_count: int
        circle_count: int

    model = random_vlm.as_chat_model(max_tokens=20)
    model.invoke([asking("Hello", drawn(1))])
    session = random_vlm.workspace.sessions.of("here")
    handle = session.images.add(load_image(drawn(2)))
    thread: Any = {"configurable": {"thread_id": "here"}}
    found: Any = model.with_structured_output(Stars).invoke(f"Tell me about {handle}", thread)
    assert isinstance(found, Stars)


def test_skills_and_tools_of_others_side_by_side(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    model = chat.bind_tools([*random_vlm.tools, get_weather])
    name, arguments = called(model, asking("What is the weather in Rome?", drawn()))
    assert (name, arguments) == ("get_weather", {"location": "Rome"})
    forced = chat.bind_tools([*random_vlm.tools, get_weather], tool_choice="detect")
    assert forced.invoke([asking("What is the weather?", drawn())]).tool_calls[0]["name"] == "detect"


def test_structured_output_always_validates(chat: ChatVisionLLM) -> None:
    request = asking("Inspect part 'A-17'", drawn())
    found: Any = chat.with_structured_output(Inspection).invoke([request])
    assert isinstance(found, Inspection)
    assert found.part == "A-17"
    raw: Any = chat.with_structured_output(Inspection, include_raw=True).invoke([request])
    assert raw["parsing_error"] is None
    answer = chat.invoke(
        [request],
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "x", "schema": Inspection.model_json_schema()},
        },
        tool_choice="none",
        tools=[],
    )
    assert Inspection.model_validate_json(str(answer.content))


def test_structured_output_is_written_to_its_end_whatever_the_limit(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model(max_tokens=1, copy_arguments=False, temperature=1.0, seed=3)
    assert isinstance(model.with_structured_output(Inspection).invoke("Inspect"), Inspection)


def test_the_closing_turn_says_what_the_tools_said(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    model = chat.bind_tools(random_vlm.tools)
    question = asking("find the star", drawn())
    call = {"name": "detect", "args": {"labels": ["star"]}, "id": "1", "type": "tool_call"}
    history = [question, AIMessage("", tool_calls=[call])]
    for report, allowed in (
        ("7 stars.", {"I found 7 stars.", "7", "yes", "no"}),
        ("no star.", {"I found no star.", "0", "yes", "no"}),
        ("The decoder is out of order. Call again.", {"The decoder is out of order. Call again."}),
    ):
        message = model.invoke([*history, ToolMessage(report, tool_call_id="1", name="detect")])
        assert message.content in allowed
        assert message.tool_calls == []
    free = random_vlm.as_chat_model(max_tokens=8, grounded=False)
    message = free.invoke([*history, ToolMessage("7 stars.", tool_call_id="1", name="detect")])
    assert message.tool_calls == []


def test_what_other_tools_report_is_passed_on_whole(chat: ChatVisionLLM) -> None:
    page = "The forecast:\n" + "\n".join(f"- day {number}: sun" for number in range(60))
    history = [
        HumanMessage("What is the weather in Rome?"),
        AIMessage("", tool_calls=[{"name": "get_weather", "args": {"location": "Rome"}, "id": "1"}]),
        ToolMessage(page, tool_call_id="1"),
    ]
    assert chat.bind_tools([get_weather]).invoke(history).content == page


def test_findings_about_two_images_are_both_told(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    question = asking("How many stars are there?", drawn(0), drawn(1))
    calls = [
        {"name": "detect", "args": {"labels": ["star"], "image": f"img_{number}"}, "id": str(number)}
        for number in range(2)
    ]
    told = [ToolMessage("4 stars.", tool_call_id=str(number)) for number in range(2)]
    model = chat.bind_tools(random_vlm.tools)
    message = model.invoke([question, AIMessage("", tool_calls=calls), *told], max_tokens=40)
    assert message.content in ("I found 4 stars, 4 stars.", "I found 4 stars and 4 stars.")


def test_a_tool_must_be_called_even_after_tools(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    """As agents with a response format ask for it."""
    model = chat.bind_tools([*random_vlm.tools, Inspection], tool_choice="any")
    call = {"name": "detect", "args": {"labels": ["star"]}, "id": "1", "type": "tool_call"}
    history = [asking("find the star", drawn()), AIMessage("", tool_calls=[call])]
    name, arguments = called(model, *history, ToolMessage("1 star.", tool_call_id="1"))
    assert name == "Inspection"
    assert Inspection(**arguments)


@pytest.mark.parametrize(
    ("name", "text"), [("email", "john.doe@example.com"), ("uri", "https://www.python.org/about")]
)
def test_addresses_are_those_that_the_user_said(name: str, text: str, chat: ChatVisionLLM) -> None:
    schema = {"type": "object", "properties": {"to": {"type": "string", "format": name}}, "required": ["to"]}
    function = {"name": "send", "description": "Send it.", "parameters": schema}
    model = chat.bind_tools([function], tool_choice="send")
    assert called(model, HumanMessage(f"Please send the page to {text}.")) == ("send", {"to": text})


def test_what_must_be_called_turn_after_turn_is_called_once(chat: ChatVisionLLM) -> None:
    """As agents with a response format ask for it: the tool that ends the work is bound last."""

    class Finish(BaseModel):
        done: bool

    model = chat.bind_tools([get_weather, add, Finish], tool_choice="any")
    history: list[Any] = [HumanMessage("What is the weather in Rome? Then add the first 2 and the second 3.")]
    names = []
    for number in range(4):
        (call,) = model.invoke(history).tool_calls
        names.append(call["name"])
        history += [AIMessage("", tool_calls=[{**call, "id": str(number)}])]
        history += [ToolMessage("It is sunny.", tool_call_id=str(number))]
    assert names == ["add", "get_weather", "Finish", "Finish"]
    assert called(model, *history, AIMessage("Done."), HumanMessage("And the weather in Oslo?")) == (
        "get_weather",
        {"location": "Oslo"},
    )
    assert called(model, HumanMessage("Hello"))[0] == "Finish"  # nothing fits


def test_usage_counts_tiles_and_patches(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    engine = random_vlm.engine
    wide = drawn(2, width=300, height=80)
    message = chat.invoke([asking("look", wide, drawn(1))])
    tiles = sum(one.tiles for one in engine.see([random_vlm.rules.load(one) for one in (wide, drawn(1))]))
    assert tiles > 2
    usage: Any = message.usage_metadata
    assert usage["input_token_details"]["image"] == tiles * engine.model.core.tokens_per_tile
    text = chat.invoke("look")
    assert text.usage_metadata["input_token_details"]["image"] == 0  # type: ignore[index]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]


def test_system_messages_replace_the_system_prompt(chat: ChatVisionLLM) -> None:
    plain = chat.invoke("hi").usage_metadata
    longer = chat.invoke([SystemMessage("You are a " + "very " * 30 + "kind assistant."), HumanMessage("hi")])
    assert longer.usage_metadata["input_tokens"] > plain["input_tokens"] + 20  # type: ignore[index]


def test_streams_add_up_to_the_reply(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    formatted = {"type": "json_schema", "json_schema": {"schema": {"properties": {"n": {"type": "integer"}}}}}
    tools = [*random_vlm.tools, get_weather]
    for model, request in (
        (chat, HumanMessage("hello")),
        (chat.bind_tools(random_vlm.tools, tool_choice="detect"), asking("find the star", drawn())),
        (chat.bind_tools([add]), HumanMessage("add 1 and 2")),
        (chat.bind(response_format=formatted), HumanMessage("hello")),
        (chat.bind_tools(tools, tool_choice="any", forbid=["detect"]), HumanMessage("hello")),
    ):
        chunks = list(model.stream([request]))
        whole = chunks[0]
        for chunk in chunks[1:]:
            whole += chunk
        assert isinstance(whole, AIMessageChunk)
        direct = model.invoke([request])
        assert whole.text == direct.text
        assert [(c["name"], c["args"]) for c in whole.tool_calls] == [
            (c["name"], c["args"]) for c in direct.tool_calls
        ]
        # Beside the cached prefix of the first call the second sums in another order: equal to rounding only.
        assert whole.response_metadata.get("routing") == roughly(direct.response_metadata.get("routing"))
        assert whole.usage_metadata["output_tokens"] == direct.usage_metadata["output_tokens"]  # type: ignore[index]


def test_a_streaming_model_answers_as_any_other(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model(max_tokens=8, streaming=True)
    schema = {"type": "object", "properties": {"n": {"const": 4}}, "required": ["n"]}
    answer = model.invoke("hello", response_format={"json_schema": {"schema": schema}})
    assert answer.content == '{"n": 4}'


def test_stop_texts_and_seeds(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model(max_tokens=20, temperature=1.0, seed=5)
    text = model.invoke("hello").text
    assert text == model.invoke("hello").text
    stop = text[3:6]
    assert model.invoke("hello", stop=[stop]).text == text[: text.index(stop)].strip()
    assert len({model.invoke("hello", seed=seed).text for seed in range(3)}) > 1


def test_time_limit(random_vlm: VisionLLM) -> None:
    model = random_vlm.as_chat_model(max_tokens=900, timeout=0.05)
    start = time.monotonic()
    with pytest.raises(GenerationCancelled, match="cancelled"):
        model.bind_tools([], tool_choice="none").invoke("hello")
    assert time.monotonic() - start < 30


def test_cache_rate_limiter_and_callbacks(random_vlm: VisionLLM) -> None:
    class Listener(BaseCallbackHandler):
        def __init__(self) -> None:
            self.started: list[Any] = []
            self.ended = 0

        def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:
            self.started.append((serialized, messages))

        def on_llm_end(self, response: Any, **kwargs: Any) -> None:
            self.ended += 1

    listener = Listener()
    model = random_vlm.as_chat_model(
        max_tokens=6,
        cache=InMemoryCache(),
        rate_limiter=InMemoryRateLimiter(requests_per_second=1000, check_every_n_seconds=0.01),
        callbacks=[listener],
    )
    first, second = model.invoke("hello"), model.invoke("hello")
    assert first.content == second.content
    assert listener.ended == 2
    assert "secret" not in json.dumps(listener.started[0][0])


@pytest.mark.parametrize("count", [200])
def test_two_hundred_tool_calls_are_no_harm(count: int, chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    calls: Any = [
        {"name": "detect", "args": {"labels": ["star"]}, "id": str(number), "type": "tool_call"}
        for number in range(count)
    ]
    reports = [ToolMessage(f"{number % 3} stars.", tool_call_id=str(number)) for number in range(count)]
    with pytest.raises(LimitError, match=r"longer than the language model can read|no room"):
        chat.invoke([asking("find", drawn()), AIMessage("", tool_calls=calls), *reports])


def test_long_requests_are_an_error(chat: ChatVisionLLM) -> None:
    with pytest.raises(LimitError):
        chat.invoke("word " * 10_000)


def test_one_checkpoint_for_model_and_tools(random_vlm: VisionLLM) -> None:
    """As in `create_agent(model=ChatVisionLLM(...), tools=vlm.tools)`: nothing is loaded twice."""
    model: Any = ChatVisionLLM(model=random_vlm.name, max_tokens=24).bind_tools(
        random_vlm.tools, tool_choice="detect"
    )
    message = model.invoke([asking("find the star", drawn())])
    assert model.bound.vlm is random_vlm
    assert {one.name: one for one in random_vlm.tools}["detect"].invoke(
        message.tool_calls[0]
    ).status == "success"


def test_tools_of_another_model_get_labels_and_no_superlink(
    random_vlm: VisionLLM, random_checkpoint: Any
) -> None:
    other = VisionLLM.from_pretrained(random_checkpoint)
    tools = tools_of(other, workspace=Workspace(other))
    message = (
        random_vlm.as_chat_model(max_tokens=24)
        .bind_tools(tools, tool_choice="detect")
        .invoke([asking("find the star", drawn())])
    )
    arguments = message.tool_calls[0]["args"]
    assert "superlink" not in arguments
    assert tools[0].invoke(message.tool_calls[0]).status == "success"


def test_other_models_by_name(random_vlm: VisionLLM, random_checkpoint: Any) -> None:
    model = random_vlm.as_chat_model(max_tokens=4)
    message = model.invoke("hi", model=str(random_checkpoint) + "/")
    assert message.response_metadata["model_name"] == str(random_checkpoint) + "/"


def test_caches_keep_sessions_apart(random_vlm: VisionLLM) -> None:
    """A reply from a cache must not name handles of somebody else's session."""
    model = random_vlm.as_chat_model(force="detect", max_tokens=20, cache=InMemoryCache())
    request = [asking("find the star", drawn(1))]

    def handles(thread: str) -> Any:
        calls = RunnableLambda(lambda _: model.invoke(request).tool_calls)
        return [
            call["args"]["superlink"] for call in calls.invoke(0, {"configurable": {"thread_id": thread}})
        ]

    assert handles("a") == handles("a") != handles("b")


@pytest.mark.parametrize("settings", [{"temprature": 1}, {"max_tokens": 0}, {"stop": 3}])
def test_settings_that_do_not_fit_are_named(settings: dict[str, Any], random_vlm: VisionLLM) -> None:
    with pytest.raises(InputError, match=rf"`{next(iter(settings))}.*settings are .*max_tokens"):
        random_vlm.as_chat_model(**settings)


def test_unknown_settings_of_a_call_are_named(chat: ChatVisionLLM) -> None:
    with pytest.raises(InputError, match="max_completion_tokens"):
        chat.invoke("hello", max_completion_tokens=3)
    with pytest.raises(InputError, match="tool_choice names no bound tool"):
        chat.invoke("hello", tool_choice="nothing")


def test_one_stop_text_is_no_list_of_letters(random_vlm: VisionLLM) -> None:
    assert random_vlm.as_chat_model(stop="END", forbid="detect").stop == ["END"]
    model = random_vlm.as_chat_model(max_tokens=24, forbid=["detect", "ground", "segment"])
    whole = model.invoke("hello").text
    assert model.invoke("hello", stop=whole[2:5]).text == whole.partition(whole[2:5])[0].strip()


def test_tools_at_the_call_are_tools_that_are_bound(chat: ChatVisionLLM, random_vlm: VisionLLM) -> None:
    request = [asking("find the star", drawn(1))]
    name = {"type": "function", "function": {"name": "count"}}
    (call,) = chat.invoke(request, tools=random_vlm.tools, tool_choice=name).tool_calls
    assert call["name"] == "count"
    (call,) = chat.invoke("the weather in Rome", tools=[get_weather], tool_choice="any").tool_calls
    assert call["name"] == "get_weather"


def test_a_skill_that_must_be_called_is_called_alone(whole_vlm: VisionLLM) -> None:
    model = whole_vlm.as_chat_model(max_tokens=24).bind_tools(whole_vlm.tools, tool_choice="pose")
    names = {call["name"] for call in model.invoke([asking("the person's nose", drawn(1))]).tool_calls}
    assert names == {"pose"}


@pytest.mark.parametrize("skill", ["generate", "edit"])
def test_nothing_is_said_before_a_picture_that_must_be_made(skill: str, whole_vlm: VisionLLM) -> None:
    model = whole_vlm.as_chat_model(max_tokens=24).bind_tools(whole_vlm.tools, tool_choice=skill)
    message = model.invoke([asking("what is this?", drawn(1))])
    assert message.text == "Here it is."
    assert [call["name"] for call in message.tool_calls] == [skill]


def test_one_call_at_a_time(vlm: VisionLLM) -> None:
    request = [asking("Detect the circles and segment the squares.", drawn(1))]
    model = vlm.as_chat_model()
    assert len(model.bind_tools(vlm.tools).invoke(request).tool_calls) == 2
    assert len(model.bind_tools(vlm.tools, parallel_tool_calls=False).invoke(request).tool_calls) == 1


def test_limits_and_stop_texts_of_closing_answers(vlm: VisionLLM) -> None:
    model = vlm.as_chat_model().bind_tools(vlm.tools)
    request = asking("Find the red circles and the blue squares.", drawn(1))
    call = {"name": "detect", "args": {"labels": ["red circle"]}, "id": "1", "type": "tool_call"}
    turn = [request, AIMessage("", tool_calls=[call]), ToolMessage("1 red circle.", tool_call_id="1")]
    assert model.invoke(turn).text == "I found 1 red circle."
    cut = model.invoke(turn, max_tokens=2)
    assert len(cut.text) < 10
    assert cut.response_metadata["finish_reason"] == "length"
    assert model.invoke(turn, stop=["red"]).text == "I found 1"
    turn[-1] = ToolMessage("It is sunny in Rome.", tool_call_id="1")
    assert model.invoke(turn, stop=["Rome"]).text == "It is sunny in "


def test_usage_counts_all_that_was_read(random_vlm: VisionLLM, chat: ChatVisionLLM) -> None:
    model = chat.with_structured_output(Inspection, include_raw=True)
    with_image = model.invoke([asking("inspect it", drawn(1))])["raw"].usage_metadata  # type: ignore[index]
    per_tile = random_vlm.engine.model.core.tokens_per_tile
    assert (
        with_image["input_token_details"]["image"] >= 3 * per_tile
    )  # questions about the image, and the form


def test_a_copy_of_other_settings_loads_nothing(random_checkpoint: Any) -> None:
    first = ChatVisionLLM(model=str(random_checkpoint), max_tokens=4)
    first.invoke("hello")
    model = first.configurable_fields(temperature=ConfigurableField(id="warmth"))
    start = time.monotonic()
    model.with_config(configurable={"warmth": 0.5}).invoke("hello")
    assert len(first.loaded) == 1
    assert time.monotonic() - start < 30
