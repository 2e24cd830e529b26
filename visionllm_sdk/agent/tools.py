"""The skills as LangChain tools: short text for the model, the typed result for the program."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool, InjectedToolArg, ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.prebuilt.tool_node import ToolRuntime
from pydantic import PrivateAttr, ValidationError

from visionllm_sdk.agent.dialogue import OVERLAY, images_of
from visionllm_sdk.agent.recipes import Recipe
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.agent.skills import (
    Skill,
    SkillArguments,
    details,
    direct,
    method_arguments,
    say,
    skills_of,
)
from visionllm_sdk.agent.workspace import Workspace, thread_of
from visionllm_sdk.errors import HandleError, InputError, VisionLLMError
from visionllm_sdk.generation import RoutedCall, ToolJob
from visionllm_sdk.images import LoadedImage
from visionllm_sdk.results import Result

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

__all__ = ["VisionTool", "tools_of"]

_MAX_ERROR = 600


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A checked tool call.

    Attributes:
        arguments: typed.
        image: to look at.
        handle: of the image.
        call: the routed call whose super-links the vision model passed on; None routes by the labels.
    """

    arguments: SkillArguments
    image: LoadedImage
    handle: str
    call: RoutedCall | None


class VisionTool(BaseTool):
    """One skill of a vision model as a tool.

    The model that calls it may be the vision model itself, which passes on a super-link, or any other one:
    labels suffice, and the image may be left out where the conversation shows which one is meant. What is
    wrong with a call comes back as a tool message with status "error" that says what to do about it.

    Attributes:
        details: also tell the model scores and boxes, one line for each detection.
        overlay: also show the model the image with the result drawn over it.
    """

    response_format: Literal["content", "content_and_artifact"] = "content_and_artifact"
    details: bool = False
    overlay: bool = False

    _skill: Skill = PrivateAttr()
    _workspace: Workspace = PrivateAttr()
    _told: tuple[str, dict[str, Any]] | None = PrivateAttr(default=None)

    def __init__(
        self, skill: Skill, workspace: Workspace, *, details: bool = False, overlay: bool = False
    ) -> None:
        settings: dict[str, Any] = {
            "name": skill.name,
            "description": skill.description,
            "args_schema": skill.arguments,
            "handle_tool_error": True,
            "handle_validation_error": _explain,
            "details": details,
            "overlay": overlay,
        }
        super().__init__(**settings)
        self._skill = skill
        self._workspace = workspace

    @property
    def skill(self) -> Skill:
        """The skill behind the tool."""
        return self._skill

    @property
    def workspace(self) -> Workspace:
        """The model behind the tool, and its sessions."""
        return self._workspace

    def as_function(self) -> dict[str, Any]:
        """The tool as a planner reads it; agents ask for it again in every turn."""
        if self._told is None or self._told[0] != self.description:
            self._told = self.description, convert_to_openai_tool(self)
        return self._told[1]

    def _run(
        self, runtime: Annotated[Any, InjectedToolArg()] = None, **arguments: Any
    ) -> tuple[str | list[str | dict[str, Any]], Result]:
        try:
            order = self._order(arguments, runtime)
            return self._report(order, self._workspace.run(self._carry_out, order))
        except VisionLLMError as error:
            raise _as_tool_error(error) from error

    async def _arun(
        self, runtime: Annotated[Any, InjectedToolArg()] = None, **arguments: Any
    ) -> tuple[str | list[str | dict[str, Any]], Result]:
        try:
            order = await asyncio.to_thread(self._order, arguments, runtime)
            result = await self._carry_out_together(order)
            return await asyncio.to_thread(self._report, order, result)
        except VisionLLMError as error:
            raise _as_tool_error(error) from error

    # -- what is asked -------------------------------------------------------------------------------------

    def _order(self, arguments: dict[str, Any], given: Any) -> _Order:
        # A caller can pass anything under this name; only a graph makes objects of this class.
        runtime = given if isinstance(given, ToolRuntime) else None
        arguments.pop("run_manager", None)
        typed = self._skill.arguments(**arguments)
        session = self._session(runtime)
        messages = _messages(runtime)
        shown = images_of(messages, session, self._workspace.vlm.rules)
        handle = self._choose(typed.image, shown, session)
        image = self._find(handle, shown, session)
        link = getattr(typed, "superlink", None)
        call = None if link is None else self._recall(link, messages, session)
        if call is not None and call.token != self._skill.token:
            raise HandleError(
                "the super-link belongs to another skill",
                value=call.token,
                limit=self._skill.token,
                remedy="Call the tool with labels and image only.",
            )
        return _Order(arguments=typed, image=image, handle=handle, call=call)

    def _session(self, runtime: Any) -> VisionSession:
        if runtime is None:
            return self._workspace.session()
        return self._workspace.sessions.of(thread_of(runtime.config))

    def _choose(self, wanted: str | None, shown: Sequence[str], session: VisionSession) -> str:
        if wanted is not None:
            return wanted
        known = shown or list(session.images)
        if not known:
            raise InputError(
                "there is no image in this conversation",
                value=None,
                remedy="Send an image with a message, or pass the handle of a registered one.",
            )
        return known[-1]

    def _find(self, handle: str, shown: Sequence[str], session: VisionSession) -> LoadedImage:
        try:
            return session.images.get(handle)
        except HandleError as error:
            known = ", ".join(shown) or "none"
            error.remedy = f"Images of this conversation: {known}. Leave `image` out for the latest one."
            raise error.at("argument `image`") from error

    def _recall(self, link: str, messages: Sequence[BaseMessage], session: VisionSession) -> RoutedCall:
        """The routed call under a handle; if it is gone, computed again from the message that made it."""
        if link not in session.links:
            for message in reversed(messages):
                if isinstance(message, AIMessage) and _passes_on(message, link):
                    self._compute_again(message, session)
                    break
        try:
            return session.links.get(link)
        except HandleError as error:
            error.remedy = "Call the tool with labels and image only."
            raise error.at("argument `superlink`") from error

    def _compute_again(self, message: AIMessage, session: VisionSession) -> None:
        recipe = Recipe.of(message)
        if recipe is None:
            return
        images = {handle: session.images.get(handle) for handle in recipe.images if handle in session.images}
        self._workspace.run(recipe.make_again, session, self._workspace.vlm.engine, images)

    # -- carrying it out -----------------------------------------------------------------------------------

    def _job(self, order: _Order) -> ToolJob:
        assert order.call is not None
        options = self._workspace.vlm.engine.known_options(
            order.call.token, self._skill.settings(order.arguments)
        )
        return ToolJob(call=order.call, image=order.image.image, options=options)

    def _forced(self, order: _Order) -> RoutedCall:
        """Super-links of a skill without a typed method, by forced routing."""
        from visionllm_sdk.generation import ForcedRequest
        from visionllm_sdk.model.conversation import ForcedCall

        engine = self._workspace.vlm.engine
        assert self._skill.token is not None
        wanted = ForcedCall(token=engine.token(self._skill.token), labels=self._skill.labels(order.arguments))
        with engine.turn():
            request = ForcedRequest(calls=(wanted,), images=tuple(engine.see([order.image])))
            ((call,),) = engine.generator.forced([request])
        return call

    def _carry_out(self, order: _Order) -> Result:
        vlm = self._workspace.vlm
        method = direct(self._skill, vlm)
        if order.call is None and method is not None:
            values, options = method_arguments(self._skill, order.image, order.arguments)
            result: Result = method(*values, **options)
            return result
        routed = order if order.call is not None else _with(order, self._forced(order))
        with vlm.engine.turn():
            (result,) = vlm.engine.run([self._job(routed)])
        return self._typed(result, order)

    async def _carry_out_together(self, order: _Order) -> Result:
        """As `_carry_out`; calls that wait at the same time run as one batch."""
        if order.call is not None:
            result: Result = await self._workspace.together("links", self._job(order), self._run_jobs)
            return self._typed(result, order)
        settings = self._skill.settings(order.arguments)
        found: Result = await self._workspace.together(f"{self.name} {settings}", order, self._run_orders)
        return found

    def _run_jobs(self, jobs: Sequence[ToolJob]) -> Sequence[Result]:
        engine = self._workspace.vlm.engine
        with engine.turn():
            return engine.run(jobs)

    def _run_orders(self, orders: Sequence[_Order]) -> Sequence[Result]:
        """Orders of equal settings without super-links."""
        method = direct(self._skill, self._workspace.vlm)
        if method is None or len(orders) == 1:
            return [self._carry_out(order) for order in orders]
        calls = [method_arguments(self._skill, order.image, order.arguments) for order in orders]
        columns = [list(column) for column in zip(*(values for values, _ in calls), strict=True)]
        results: Sequence[Result] = method(*columns, **calls[0][1])
        return results

    def _typed(self, result: Result, order: _Order) -> Result:
        """What a routed call found: with the regions it answers, or as a count where one was asked for."""
        from visionllm_sdk.results import Detections
        from visionllm_sdk.skills.marking import number_regions
        from visionllm_sdk.skills.perception import as_count

        result = number_regions(result)
        if self._skill.name == "count" and isinstance(result, Detections):
            return as_count(result, self._skill.labels(order.arguments)[0])
        return result

    def _report(self, order: _Order, result: Result) -> tuple[str | list[str | dict[str, Any]], Result]:
        text = say(result)
        if self.details and (lines := details(result)):
            text = f"{text}\n{lines}"
        if not self.overlay or not hasattr(result, "draw"):
            return text, result
        picture = io.BytesIO()
        result.draw(order.image).save(picture, format="PNG")
        shown = {
            "type": "image",
            "base64": base64.b64encode(picture.getvalue()).decode(),
            "mime_type": "image/png",
            "extras": {OVERLAY: order.handle},
        }
        return [{"type": "text", "text": text}, shown], result


def tools_of(
    vlm: VisionLLM, *, details: bool = False, overlay: bool = False, workspace: Workspace | None = None
) -> list[BaseTool]:
    """One tool for every skill of a loaded model: `detect`, `ground`, `segment`, `count`, `ask`, `caption`.

    Args:
        vlm: the model.
        details: also tell the calling model scores and boxes.
        overlay: also show the calling model the image with the result drawn over it.
        workspace: whose sessions the tools use; the model's own if not given.
    """
    shared = workspace or vlm.workspace
    return [VisionTool(skill, shared, details=details, overlay=overlay) for skill in skills_of(vlm)]


def _with(order: _Order, call: RoutedCall) -> _Order:
    return _Order(arguments=order.arguments, image=order.image, handle=order.handle, call=call)


def _messages(runtime: Any) -> Sequence[BaseMessage]:
    """The conversation in the state of a graph."""
    state = getattr(runtime, "state", None)
    found = state.get("messages", ()) if isinstance(state, Mapping) else getattr(state, "messages", state)
    return (
        [one for one in found or () if isinstance(one, BaseMessage)]
        if isinstance(found, list | tuple)
        else []
    )


def _passes_on(message: AIMessage, link: str) -> bool:
    return any(call["args"].get("superlink") == link for call in message.tool_calls)


def _as_tool_error(error: VisionLLMError) -> ToolException:
    return ToolException(str(error)[:_MAX_ERROR])


def _explain(error: Any) -> str:
    """What is wrong with the arguments of a call, and what to do about it."""
    faults = error.errors() if isinstance(error, ValidationError) else []
    told = "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in faults[:4]
    )
    return f"The arguments do not fit ({told or error}). Correct them and call the tool again."[:_MAX_ERROR]
