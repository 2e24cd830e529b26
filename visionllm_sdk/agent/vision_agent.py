"""`VisionAgent`: an agent that sees, in three lines."""

from __future__ import annotations

import asyncio
import base64
import io
import uuid
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langchain_core.prompt_values import PromptValue
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import ensure_config
from langchain_core.tools import BaseTool
from langgraph.types import Command
from pydantic import BaseModel, ValidationError

from visionllm_sdk._result import Probability
from visionllm_sdk.agent.requests import PROVIDER
from visionllm_sdk.agent.review import as_run
from visionllm_sdk.agent.skills import BUILT_IN
from visionllm_sdk.agent.workspace import thread_of
from visionllm_sdk.errors import ArtifactError, InputError
from visionllm_sdk.images import ImageSource, LoadedImage
from visionllm_sdk.regions import Region, RegionBlock, region_block
from visionllm_sdk.results import Alternative, Reply, RoutedCall, Usage, revive
from visionllm_sdk.skills.arguments import check_message, each, is_many
from visionllm_sdk.skills.marking import Regions

if TYPE_CHECKING:
    from langchain.agents.middleware import AgentMiddleware
    from langgraph.types import Checkpointer

    from visionllm_sdk.skills import VisionLLM

__all__ = ["AgentInput", "VisionAgent", "image_block", "reply_of"]

AgentInput: TypeAlias = (
    str | Mapping[str, Any] | PromptValue | BaseMessage | Sequence[BaseMessage] | Command[Any] | None
)
"""A text; a mapping with `text` and, if wanted, `images` and `regions`; messages, one or many, also as
`{"messages": ...}` or as a prompt; what a kept thread that waits is to go on with (`Command`, or None)."""
_PARTS: Final = ("text", "images", "regions")


class VisionAgent(Runnable[AgentInput, Reply]):
    """An agent over one vision model: it calls the model's skills, and other tools, until it can answer.

        agent = VisionAgent(vlm)
        reply = agent.invoke("Find the red circle.", images=["scene.png"])
        reply.calls[0].result

    Every call is a conversation of its own, unless a checkpointer keeps threads and the configuration names
    one: `agent.invoke(..., config={"configurable": {"thread_id": "7"}})`.

    Args:
        vlm: the model; None loads the embedded one.
        tools: further tools that the agent may use.
        system_prompt: replaces the checkpoint's own.
        checkpointer: keeps threads, as for LangGraph.
        middleware: of LangChain's agents, such as reviews by people.
        settings: of the chat model, such as `force`, `forbid`, `temperature`.

    Raises:
        InputError: a setting that is unknown, or has a value that is not allowed.
    """

    def __init__(
        self,
        vlm: VisionLLM | None = None,
        *,
        tools: Sequence[BaseTool] = (),
        system_prompt: str | None = None,
        checkpointer: Checkpointer = None,
        middleware: Sequence[AgentMiddleware[Any, Any]] = (),
        **settings: Any,
    ) -> None:
        if vlm is None:
            from visionllm_sdk.skills import VisionLLM

            vlm = VisionLLM.from_pretrained()
        self.vlm = vlm
        self._keeps = bool(checkpointer)
        try:
            model = vlm.as_chat_model(**settings)
        except InputError as error:
            error.remedy = (
                f"{error.remedy} Other agents are made by `langchain.agents.create_agent` from "
                "`vlm.as_chat_model()` and `vlm.tools`."
            )
            raise error.at("VisionAgent") from error
        self.graph: Any = create_agent(
            model=model,
            tools=[*vlm.tools, *tools],
            system_prompt=system_prompt,
            checkpointer=checkpointer,
            middleware=middleware,
        )

    def invoke(
        self,
        input: AgentInput,
        config: RunnableConfig | None = None,
        *,
        images: Sequence[ImageSource] | ImageSource = (),
        regions: Regions = (),
        **kwargs: Any,
    ) -> Reply:
        """Answer a message.

        Args:
            input: the text; or a mapping with `text`, `images` and `regions`; or messages, which hold their
                images and regions themselves; or what a kept thread goes on with; see `AgentInput`.
            config: LangChain's; `thread_id` continues a kept thread.
            images: of the message.
            regions: places of its last image that the message points at, in pixels; see `vlm.chat`.
            kwargs: passed on to the graph; not `stream_mode` and `output_keys`, which change what it gives.

        Raises:
            ImageError: an image that cannot be used.
            RegionError: a region without an image, or one that does not fit it.
            InputError: an empty message, something that is no region, images and regions beside messages, or
                a setting that changes what the graph gives.
        """
        named = _named(config)
        _whole_states(kwargs)
        with self._running(named):
            state = self.graph.invoke(self._start(input, images, regions, named), named, **kwargs)
        return reply_of(state["messages"])

    async def ainvoke(
        self,
        input: AgentInput,
        config: RunnableConfig | None = None,
        *,
        images: Sequence[ImageSource] | ImageSource = (),
        regions: Regions = (),
        **kwargs: Any,
    ) -> Reply:
        """As :meth:`invoke`; calls that wait at the same time share the model's batches."""
        named = _named(config)
        _whole_states(kwargs)
        with self.vlm.workspace.conversation(), self._running(named):
            start = await asyncio.to_thread(self._start, input, images, regions, named)
            state = await self.graph.ainvoke(start, named, **kwargs)
        return reply_of(state["messages"])

    def stream(
        self,
        input: AgentInput,
        config: RunnableConfig | None = None,
        *,
        images: Any = (),
        regions: Any = (),
        **kwargs: Any,
    ) -> Iterator[Reply]:
        """The reply as it grows: after every call, and when it is finished. As :meth:`invoke`."""
        named = _named(config)
        _whole_states(kwargs)
        with self._running(named):
            start = self._start(input, images, regions, named)
            for state in self.graph.stream(start, named, stream_mode="values", **kwargs):
                if isinstance(state["messages"][-1], AIMessage | ToolMessage):
                    yield reply_of(state["messages"])

    async def astream(
        self,
        input: AgentInput,
        config: RunnableConfig | None = None,
        *,
        images: Any = (),
        regions: Any = (),
        **kwargs: Any,
    ) -> AsyncIterator[Reply]:
        """As :meth:`stream`; calls that wait at the same time share the model's batches."""
        named = _named(config)
        _whole_states(kwargs)
        with self.vlm.workspace.conversation(), self._running(named):
            start = await asyncio.to_thread(self._start, input, images, regions, named)
            async for state in self.graph.astream(start, named, stream_mode="values", **kwargs):
                if isinstance(state["messages"][-1], AIMessage | ToolMessage):
                    yield reply_of(state["messages"])

    def _running(self, config: RunnableConfig) -> AbstractContextManager[None]:
        """The time of one run, in which nothing else pushes its images out."""
        return self.vlm.workspace.sessions.running(thread_of(config))

    def _start(self, given: AgentInput, images: Any, regions: Any, config: RunnableConfig) -> Any:
        """What the graph begins with: messages, or what it waits for."""
        if given is None or isinstance(given, Command):
            _nothing_beside(images, regions)
            return given
        return {"messages": self._messages(given, images, regions, config)}

    def _messages(self, given: Any, images: Any, regions: Any, config: RunnableConfig) -> list[BaseMessage]:
        if isinstance(given, PromptValue):
            given = given.to_messages()
        elif isinstance(given, Mapping) and set(given) == {"messages"}:
            given = given["messages"]
        if isinstance(given, BaseMessage):
            given = [given]
        if isinstance(given, Mapping):
            unknown = sorted(set(given) - set(_PARTS))
            if unknown or "text" not in given:
                raise InputError(
                    "the input of an agent is a text with images", value=unknown, limit=", ".join(_PARTS)
                )
            parts = {"images": images, "regions": regions, **given}
            return self._messages(parts["text"], parts["images"], parts["regions"], config)
        if isinstance(given, list | tuple):
            _nothing_beside(images, regions)
            return [*given]
        text = check_message(given)
        loaded = each(_several(images), self.vlm.rules.load, "image")
        blocks = [self._block(image, config) for image in loaded]
        marks = each(_several(regions), _mark, "region")
        return [HumanMessage([*blocks, *marks, {"type": "text", "text": text}])]

    def _block(self, image: LoadedImage, config: RunnableConfig) -> dict[str, Any]:
        """An image for a message: whole where the message outlives this process, else by its handle."""
        if self._keeps:
            return image_block(image)
        session = self.vlm.workspace.sessions.of(thread_of(config))
        return {"type": "image", "file_id": session.images.add(image)}


def _several(given: Any) -> list[Any]:
    if given is None:
        return []
    return [*given] if is_many(given) else [given]


def _nothing_beside(images: Any, regions: Any) -> None:
    """Raises InputError for images and regions where messages hold them already."""
    sources, places = _several(images), _several(regions)
    if sources or places:
        raise InputError(
            "messages hold their images and regions themselves",
            value=f"{len(sources)} images and {len(places)} regions beside messages",
            remedy="Put them into the messages as content blocks, or pass a text.",
        )


def _whole_states(settings: Mapping[str, Any]) -> None:
    """Raises InputError for settings of a run from whose states no reply can be read."""
    for name in ("stream_mode", "output_keys"):
        if name in settings:
            raise InputError(
                f"an agent gives replies, which `{name}` cannot change",
                value=settings[name],
                remedy="Run `agent.graph`, which gives messages and takes all of LangGraph's settings.",
            )


def _mark(region: Region | RegionBlock) -> dict[str, Any]:
    """A region prompt as a block of a message."""
    if not isinstance(region, RegionBlock):
        region = region_block({"type": "region", "region": region})
    return region.model_dump(mode="json")


def image_block(image: LoadedImage) -> dict[str, Any]:
    """An image as a standard block of a message, without loss."""
    data = io.BytesIO()
    image.image.save(data, format="PNG", compress_level=1)
    text = base64.b64encode(data.getvalue()).decode()
    return {"type": "image", "base64": text, "mime_type": "image/png"}


def reply_of(messages: Sequence[BaseMessage]) -> Reply:
    """The last turn of an agent's conversation as a typed reply.

    Args:
        messages: of the conversation; artifacts of this SDK's tools may be typed results or the data of
            such, those of other people's stay in their messages.

    Raises:
        ArtifactError: an artifact was changed or damaged.
    """
    start = max((number for number, one in enumerate(messages) if isinstance(one, HumanMessage)), default=-1)
    turn = messages[start + 1 :]
    spoken = [one for one in turn if isinstance(one, AIMessage)]
    reports = {one.tool_call_id: one for one in turn if isinstance(one, ToolMessage)}
    calls = [call for one in spoken for call in _calls(one, reports)]
    return Reply(
        text=spoken[-1].text if spoken else "",
        calls=tuple(calls),
        finish_reason="length" if any(map(_is_cut, spoken)) else "stop",
        usage=_usage(spoken),
        probability=_kept(spoken[-1]).probability if spoken else None,
    )


def _calls(message: AIMessage, reports: Mapping[str, ToolMessage]) -> Iterator[RoutedCall]:
    """The tool calls of one message with their results; of other people's tools only the names."""
    audit = {(entry.tool, entry.labels): entry for entry in _kept(message).routing}
    own = BUILT_IN | {tool for tool, _ in audit}
    for call in message.tool_calls:
        if call["name"] not in own:
            yield RoutedCall(token="", tool=call["name"], probability=1.0)
            continue
        report = reports.get(call["id"] or "")
        call = call if report is None else as_run(call, report.text)[0]
        labels = _labels(call["args"])
        entry = audit.get((call["name"], labels)) or audit.get((call["name"], ("",)))
        for result in _results_of(report):
            yield RoutedCall(
                token=entry.token if entry else "",
                tool=call["name"],
                labels=labels,
                probability=entry.probability if entry else 1.0,
                alternatives=entry.alternatives if entry else (),
                result=result,
                image=_handle(call["args"].get("image")),
                superlink=_handle(call["args"].get("superlink")),
            )


class _Decision(BaseModel):
    """A routing decision as its message keeps it."""

    tool: str
    labels: tuple[str, ...]
    token: str
    probability: Probability
    alternatives: tuple[Alternative, ...]


class _Kept(BaseModel):
    """What a message of the model says about how it came about."""

    routing: tuple[_Decision, ...] = ()
    probability: Probability | None = None


def _kept(message: AIMessage) -> _Kept:
    """Raises ArtifactError where a store returned something else than the model wrote."""
    if message.response_metadata.get("model_provider") != PROVIDER:
        return _Kept()
    try:
        return _Kept.model_validate(message.response_metadata)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ArtifactError(
            f"the record of a routing decision was changed or damaged: {place}: {first['msg']}",
            value=message.id,
            remedy="Ask again, or restore the message.",
        ) from error


def _results_of(report: ToolMessage | None) -> Sequence[Any]:
    """The typed results of a tool of this SDK, one for each region where it was asked about regions."""
    artifact = report.artifact if report is not None else None
    if artifact is None or (isinstance(artifact, Mapping) and "type" not in artifact):
        return (None,)
    revived = revive(artifact)
    return revived if isinstance(revived, list) else (revived,)


def _labels(arguments: Mapping[str, Any]) -> tuple[str, ...]:
    """What a call looks for, as the reply names it; nothing where a planner wrote something else."""
    keypoints = arguments.get("keypoints")
    names = ("labels", "expression", "label", "prompt", "instruction")
    given = next((arguments[name] for name in names if name in arguments), ())
    given = keypoints if isinstance(keypoints, list) else [given] if isinstance(given, str) else given
    fits = isinstance(given, list | tuple) and all(isinstance(one, str) for one in given)
    return tuple(given) if fits else ()


def _handle(given: Any) -> str | None:
    """A handle among the arguments, which a planner may have written badly."""
    return given if isinstance(given, str) else None


def _is_cut(message: AIMessage) -> bool:
    return message.response_metadata.get("finish_reason") in ("length", "calls")


def _usage(messages: Sequence[AIMessage]) -> Usage | None:
    counts = [one.usage_metadata for one in messages if one.usage_metadata is not None]
    if not counts:
        return None
    details: list[Any] = [one.get("input_token_details", {}) for one in counts]
    return Usage(
        input_tokens=sum(one["input_tokens"] for one in counts),
        image_tokens=sum(one.get("image", 0) for one in details),
        output_tokens=sum(one["output_tokens"] for one in counts),
    )


def _named(config: RunnableConfig | None) -> RunnableConfig:
    """The configuration with a thread: handles are good within one thread."""
    full = ensure_config(config)
    return {**full, "configurable": {"thread_id": uuid.uuid4().hex, **full.get("configurable", {})}}
