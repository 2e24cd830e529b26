"""The skills as LangChain tools: short text for the model, the typed result for the program."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from langchain_core.messages import BaseMessage
from langchain_core.tools import BaseTool, InjectedToolArg, ToolException
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.prebuilt.tool_node import ToolRuntime
from pydantic import PrivateAttr, ValidationError

from visionllm_sdk.agent.arguments import SkillArguments
from visionllm_sdk.agent.dialogue import OVERLAY, PRODUCED, images_of
from visionllm_sdk.agent.recipes import Recipe
from visionllm_sdk.agent.sessions import KeptCall, VisionSession
from visionllm_sdk.agent.skills import Skill
from visionllm_sdk.agent.telling import Outcome, details, say
from visionllm_sdk.agent.workspace import Workspace, thread_of
from visionllm_sdk.errors import HandleError, InputError, VisionLLMError
from visionllm_sdk.generation import RoutedCall, ToolJob
from visionllm_sdk.images import LoadedImage, load_image
from visionllm_sdk.regions import Region
from visionllm_sdk.results import Detections, EditedImage, ImageResult, Picture, Result
from visionllm_sdk.skills.engine import SKILL_TOKENS
from visionllm_sdk.skills.marking import number_regions, pointed_out
from visionllm_sdk.skills.perception import as_count
from visionllm_sdk.skills.regional import ONE_EACH, one_of_each

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

__all__ = ["VisionTool", "tools_of"]

_MAX_ERROR = 600
_Content: TypeAlias = str | list[str | dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class _Order:
    """A checked tool call.

    Attributes:
        arguments: typed.
        session: of the conversation.
        images: to look at, in the order of the skill's arguments; the last one is what the result is about.
        handles: of the images.
        call: the routed call whose super-links the vision model passed on, if it was made for what is asked;
            None routes by the labels.
        marked: regions of the message that its labels stand for: each has its detection.
    """

    arguments: SkillArguments
    session: VisionSession
    images: tuple[LoadedImage, ...]
    handles: tuple[str, ...]
    call: RoutedCall | None
    marked: Mapping[str, Region] = field(default_factory=dict)

    @property
    def subject(self) -> LoadedImage | None:
        """The image that the result is about."""
        return self.images[-1] if self.images else None


class VisionTool(BaseTool):
    """One skill of a vision model as a tool.

    The model that calls it may be the vision model itself, which passes on a super-link, or any other one:
    labels suffice, and the image may be left out where the conversation shows which one is meant. What is
    wrong with a call comes back as a tool message with status "error" that says what to do about it.

    Attributes:
        details: also tell the model scores and boxes, one line for each detection.
        overlay: also show the model the image with the result drawn over it, and pictures that were made.
            The vision model itself is always shown the pictures that it made.
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
    ) -> tuple[_Content, Outcome]:
        try:
            order = self._order(arguments, runtime)
            return self._report(order, self._workspace.run(self._carry_out, order))
        except VisionLLMError as error:
            raise _as_tool_error(error) from error

    async def _arun(
        self, runtime: Annotated[Any, InjectedToolArg()] = None, **arguments: Any
    ) -> tuple[_Content, Outcome]:
        try:
            if self._at_hand(arguments, runtime):
                order = self._order(arguments, runtime)
            else:
                order = await asyncio.to_thread(self._order, arguments, runtime)
            result = await self._carry_out_together(order)
            if not self.overlay and not isinstance(result, Picture):  # nothing to draw or to encode
                return self._report(order, result)
            return await asyncio.to_thread(self._report, order, result)
        except VisionLLMError as error:
            raise _as_tool_error(error) from error

    def _at_hand(self, arguments: Mapping[str, Any], runtime: Any) -> bool:
        """Whether images and super-link of a call are kept, so that there is nothing to load or compute."""
        session = self._session(runtime if isinstance(runtime, ToolRuntime) else None)
        link = arguments.get("superlink")
        return (link is None or link in session.links) and all(
            arguments.get(name) in session.images for name in self._skill.images
        )

    # -- what is asked -------------------------------------------------------------------------------------

    def _order(self, arguments: dict[str, Any], given: Any) -> _Order:
        # A caller can pass anything under this name; only a graph makes objects of this class.
        runtime = given if isinstance(given, ToolRuntime) else None
        arguments.pop("run_manager", None)
        typed = self._skill.arguments(**arguments)
        session = self._session(runtime)
        messages = _messages(runtime)
        # Graphs without a thread share one session: of its images, only those of the messages are meant.
        shared = runtime is not None and thread_of(runtime.config) is None
        kept = () if shared else tuple(session.images)
        link = getattr(typed, "superlink", None)
        with session.images.held():
            handles, images = self._images(typed, messages, session, kept) if self._skill.images else ((), ())
            call = None if link is None else self._recall(link, messages, session)
        if call is not None and call.token != self._skill.token:
            raise HandleError(
                "the super-link belongs to another skill",
                value=call.token,
                limit=self._skill.token,
                remedy="Call the tool with labels and image only.",
            )
        if call is not None and not self._made_for(call, typed, images):
            call = None  # a person has changed what the vision model asked for
        marked = {} if call is None or link is None else self._marked(link, call, typed, messages)
        return _Order(
            arguments=typed, session=session, images=images, handles=handles, call=call, marked=marked
        )

    def _made_for(self, call: KeptCall, arguments: SkillArguments, images: Sequence[LoadedImage]) -> bool:
        """Whether a call is about what the arguments say, and was computed from the images they name."""
        phrased = self._skill.phrased(call, call.key.request)
        given = arguments.model_fields_set & phrased.keys()
        same = all(getattr(arguments, name) == phrased[name] for name in given)
        return same and all(image.digest in call.key.images for image in images)

    def _marked(
        self, link: str, call: RoutedCall, arguments: SkillArguments, messages: Sequence[BaseMessage]
    ) -> dict[str, Region]:
        """What the user pointed at, where that is looked for and no threshold decides; by label."""
        found = self._skill.settings(arguments).get("threshold") is None and Recipe.behind(link, messages)
        if not found or call.token != SKILL_TOKENS["detect"]:
            return {}
        return pointed_out(found.marks, len(found.images), call.labels)

    def _images(
        self,
        arguments: SkillArguments,
        messages: Sequence[BaseMessage],
        session: VisionSession,
        kept: Sequence[str],
    ) -> tuple[tuple[str, ...], tuple[LoadedImage, ...]]:
        """Handles and images that the arguments name, or leave out where there is one to be meant: the latest
        of the messages, else of those that are kept."""
        wanted = {name: getattr(arguments, name) for name in self._skill.images}
        if all(handle in session.images for handle in wanted.values()):
            shown: list[str] = []
        else:  # some image is not named, or gone since: the conversation shows it
            shown = images_of(messages, session, self._workspace.vlm.rules)
        handles = {name: self._choose(handle, shown or kept) for name, handle in wanted.items()}
        found = tuple(self._find(name, handle, shown, session) for name, handle in handles.items())
        return tuple(handles.values()), found

    def _session(self, runtime: Any) -> VisionSession:
        if runtime is None:
            return self._workspace.session()
        return self._workspace.sessions.of(thread_of(runtime.config))

    @staticmethod
    def _choose(wanted: str | None, known: Sequence[str]) -> str:
        if wanted is not None:
            return wanted
        if not known:
            raise InputError(
                "there is no image in this conversation",
                value=None,
                remedy="Send an image with a message, or pass the handle of a registered one.",
            )
        return known[-1]

    def _find(self, name: str, handle: str, shown: Sequence[str], session: VisionSession) -> LoadedImage:
        try:
            return session.images.get(handle)
        except HandleError as error:
            known = ", ".join(shown) or "none"
            latest = " Leave `image` out for the latest one." if name == "image" else ""
            error.remedy = f"Images of this conversation: {known}.{latest}"
            raise error.at(f"argument `{name}`") from error

    def _recall(self, link: str, messages: Sequence[BaseMessage], session: VisionSession) -> KeptCall:
        """The routed call under a handle; if it is gone, computed again from the message that made it."""
        if link not in session.links:
            recipe = Recipe.behind(link, messages)
            if recipe is not None:
                self._compute_again(recipe, session)
        try:
            return session.links.get(link)
        except HandleError as error:
            error.remedy = "Call the tool with labels and image only."
            raise error.at("argument `superlink`") from error

    def _compute_again(self, recipe: Recipe, session: VisionSession) -> None:
        images = {handle: session.images.get(handle) for handle in recipe.images if handle in session.images}
        self._workspace.run(recipe.make_again, session, self._workspace.vlm.engine, images)

    # -- carrying it out -----------------------------------------------------------------------------------

    def _job(self, order: _Order) -> ToolJob:
        assert order.call is not None
        settings = {**self._skill.settings(order.arguments), **(ONE_EACH if order.marked else {})}
        options = self._workspace.vlm.engine.known_options(order.call.token, settings)
        words = self._skill.labels(order.arguments)[0] if self._skill.draws else ""
        return ToolJob.about(order.subject, order.call, options=options, instruction=words)

    def _forced(self, order: _Order) -> RoutedCall:
        """Super-links of a skill without a typed method, by forced routing."""
        from visionllm_sdk.generation import ForcedRequest
        from visionllm_sdk.model.conversation import ForcedCall

        engine = self._workspace.vlm.engine
        assert self._skill.token is not None
        wanted = ForcedCall(token=engine.token(self._skill.token), labels=self._skill.labels(order.arguments))
        with engine.turn():
            request = ForcedRequest(
                calls=(wanted,), images=tuple(engine.see(order.images)), session=engine.session
            )
            ((call,),) = engine.generator.forced([request])
        return call

    def _carry_out(self, order: _Order) -> Outcome:
        vlm = self._workspace.vlm
        method = self._skill.method(vlm)
        if order.call is None and method is not None:
            settings = self._skill.settings(order.arguments)
            direct: Outcome = method(**self._skill.values(order.arguments, order.images), **settings)
            return self._typed(direct, order)
        routed = order if order.call is not None else replace(order, call=self._forced(order))
        (result,) = self._run_jobs([self._job(routed)])
        return self._typed(result, order)

    async def _carry_out_together(self, order: _Order) -> Outcome:
        """As `_carry_out`; calls that wait at the same time run as one batch."""
        if order.call is not None:
            result: Result = await self._workspace.together("links", self._job(order), self._run_jobs)
            return self._typed(result, order)
        settings = self._skill.settings(order.arguments)
        found: Outcome = await self._workspace.together(f"{self.name} {settings}", order, self._run_orders)
        return found

    def _run_jobs(self, jobs: Sequence[ToolJob]) -> Sequence[Result]:
        engine = self._workspace.vlm.engine
        with engine.turn():
            return engine.run(jobs)

    def _run_orders(self, orders: Sequence[_Order]) -> Sequence[Outcome]:
        """Orders of equal settings without super-links."""
        method = self._skill.method(self._workspace.vlm)
        if method is None or len(orders) == 1:
            return [self._carry_out(order) for order in orders]
        calls = [self._skill.values(order.arguments, order.images) for order in orders]
        columns = {name: [call[name] for call in calls] for name in calls[0]}
        results: Sequence[Outcome] = method(**columns, **self._skill.settings(orders[0].arguments))
        return [self._typed(result, order) for result, order in zip(results, orders, strict=True)]

    def _typed(self, result: Outcome, order: _Order) -> Outcome:
        """A result as the conversation keeps it: with the regions it answers, as a count where one was asked
        for, and a picture under a handle of the session."""
        if isinstance(result, Picture):
            return _kept(result, order)
        if order.call is None or not isinstance(result, Detections):
            return result
        found = number_regions(one_of_each(result, order.marked))
        return as_count(found, self._skill.labels(order.arguments)[0]) if self.name == "count" else found

    def _report(self, order: _Order, result: Outcome) -> tuple[_Content, Outcome]:
        text = say(result, alike=len(self._skill.images) > 1)
        if self.details and (lines := details(result)):
            text = f"{text}\n{lines}"
        shown = self._shown(order, result)
        return ([{"type": "text", "text": text}, shown] if shown else text), result

    def _shown(self, order: _Order, result: Outcome) -> dict[str, Any] | None:
        """An image block for a model that can see it: a picture that was made, or a result drawn over its
        image."""
        if isinstance(result, Picture):
            seen = self.overlay or getattr(order.arguments, "superlink", None) is not None
            data = result.to_png(metadata=False) if seen and result.refused is None else None
            return None if data is None else _block(data, {PRODUCED: result.handle})
        if not self.overlay or not isinstance(result, ImageResult):
            return None
        picture = io.BytesIO()
        result.draw(order.images[-1]).save(picture, format="PNG")
        return _block(picture.getvalue(), {OVERLAY: order.handles[-1]})


def tools_of(
    vlm: VisionLLM, *, details: bool = False, overlay: bool = False, workspace: Workspace | None = None
) -> list[BaseTool]:
    """One tool for every skill of a loaded model, named after its method.

    These are `detect`, `ground`, `segment`, `count`, `ask` and `caption`; where the checkpoint has the parts
    for it also `pose`, `describe`, `classify`, `segment_regions`, `segment_like`, `generate` and `edit`.

    Args:
        vlm: the model.
        details: also tell the calling model scores and boxes.
        overlay: also show the calling model the image with the result drawn over it.
        workspace: whose sessions the tools use; the model's own if not given.
    """
    shared = workspace or vlm.workspace
    return [VisionTool(skill, shared, details=details, overlay=overlay) for skill in shared.skills]


def _kept(picture: Picture, order: _Order) -> Picture:
    """A picture under a handle of its conversation, which another conversation cannot open."""
    if isinstance(picture, EditedImage):
        picture = picture.from_source(order.handles[-1])
    if picture.refused is not None:
        return picture
    origin = f"{order.arguments.__class__.__name__.removesuffix('Arguments').lower()}: {picture.prompt[:60]}"
    return picture.with_origin(handle=order.session.images.add(load_image(picture.image), origin=origin))


def _block(png: bytes, extras: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "image",
        "base64": base64.b64encode(png).decode(),
        "mime_type": "image/png",
        "extras": extras,
    }


def _messages(runtime: Any) -> Sequence[BaseMessage]:
    """The conversation in the state of a graph."""
    state = getattr(runtime, "state", None)
    found = state.get("messages", ()) if isinstance(state, Mapping) else getattr(state, "messages", state)
    given = found if isinstance(found, list | tuple) else ()
    return [one for one in given if isinstance(one, BaseMessage)]


def _as_tool_error(error: VisionLLMError) -> ToolException:
    return ToolException(str(error)[:_MAX_ERROR])


def _explain(error: Any) -> str:
    """What is wrong with the arguments of a call, and what to do about it."""
    faults = error.errors() if isinstance(error, ValidationError) else []
    told = "; ".join(
        f"{'.'.join(map(str, fault['loc'])) or 'arguments'}: {fault['msg']}" for fault in faults[:4]
    )
    return f"The arguments do not fit ({told or error}). Correct them and call the tool again."[:_MAX_ERROR]
