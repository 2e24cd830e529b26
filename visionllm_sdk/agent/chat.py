"""`ChatVisionLLM`: the model as a LangChain chat model."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils import from_env
from pydantic import ConfigDict, Field, PrivateAttr

from visionllm_sdk import generation
from visionllm_sdk.agent.binding import Binding
from visionllm_sdk.agent.choices import answer_format, as_function, function_of, named_choice
from visionllm_sdk.agent.dialogue import read_dialogue
from visionllm_sdk.agent.replies import Replier
from visionllm_sdk.agent.requests import Job
from visionllm_sdk.agent.running import Answered, Deadline, Stripped, answer, job_events, last_chunks
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.agent.tools import VisionTool
from visionllm_sdk.agent.workspace import Workspace
from visionllm_sdk.errors import InputError, VisionLLMError
from visionllm_sdk.fetch import UrlPolicy
from visionllm_sdk.generation import CancelToken, GeneratedReply, GenerationOptions
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.loading import EMBEDDED

__all__ = ["ChatVisionLLM"]


class ChatVisionLLM(BaseChatModel):
    """A vision model that any LangChain program accepts.

    Its routing tokens come out as tool calls with typed arguments: what to look for, the handle of the
    image, and the handle of the super-link, which carries the model's own states to its tools. After the tool
    messages it closes the turn with what they reported. Tools of others and structured output are written
    under a grammar of their schema: they always validate.

    Attributes:
        model: "embedded", a checkpoint folder, or a name on the model hub; loaded when first needed.
        device: where it runs; None is the CPU.
        dtype: number format; None takes the one that suits the device.
        temperature: 0 takes the likeliest token.
        max_tokens: most tokens of a reply. Calls and structured output are always written to their end.
        top_p: share of the probability that is sampled from.
        top_k: number of tokens that are sampled from; 0 is all.
        seed: of sampling.
        stop: texts before which a reply ends.
        timeout: seconds after which a request is cancelled.
        force: routing token or skill that a reply must use.
        forbid: routing tokens or skills that it must not use.
        grounded: the turn after tool messages says what they reported and nothing else.
        copy_arguments: labels, and texts and numbers in calls of other people's tools, are taken from what
            the user said, where that offers any. Sensible for small checkpoints; large ones may write freely.
        allow_urls: whether image URLs are fetched.
        url_hosts: the only hosts from which they are fetched.
        allow_private_urls: also from addresses of this machine and its network.
        vlm: a loaded model to be used instead of loading one; not part of the serialised form.
    """

    model: str = Field(default_factory=from_env("VISIONLLM_MODEL", default=EMBEDDED))
    device: str | None = Field(default_factory=from_env("VISIONLLM_DEVICE", default=None))
    dtype: str | None = None
    temperature: float | None = Field(default=None, ge=0)
    max_tokens: int = Field(default=256, ge=1)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    seed: int | None = None
    stop: list[str] | None = None
    timeout: float | None = Field(default=None, gt=0)
    streaming: bool = False
    force: str | None = None
    forbid: list[str] = Field(default_factory=list)
    grounded: bool = True
    copy_arguments: bool = True
    allow_urls: bool = False
    url_hosts: list[str] | None = None
    allow_private_urls: bool = False
    vlm: Any = Field(default=None, exclude=True, repr=False)

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    _workspaces: dict[str, Workspace] = PrivateAttr(default_factory=dict)
    _loading: Any = PrivateAttr(default_factory=threading.Lock)
    _shared: Workspace | None = PrivateAttr(default=None)

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "visionllm"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        names = ("model", "temperature", "max_tokens", "top_p", "top_k", "seed", "stop", "force", "forbid")
        return {name: getattr(self, name) for name in names}

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Its settings can be stored; weights, sessions and secrets are not part of them."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where the class is found again."""
        return ["visionllm_sdk", "agent", "chat"]

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = "visionllm"
        return params

    def _resolve_model_profile(self) -> ModelProfile | None:
        return ModelProfile(
            name=self.model,
            text_inputs=True,
            image_inputs=True,
            image_url_inputs=self.allow_urls,
            pdf_inputs=False,
            audio_inputs=False,
            video_inputs=False,
            image_tool_message=True,
            text_outputs=True,
            image_outputs=False,
            tool_calling=True,
            tool_choice=True,
            structured_output=False,  # through a tool call, under a grammar
            max_output_tokens=self.max_tokens,
        )

    # -- binding -------------------------------------------------------------------------------------------

    def bind_tools(
        self,
        tools: Sequence[Mapping[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Let replies call tools.

        Args:
            tools: tools of this SDK, which are called by routing tokens, and any others.
            tool_choice: "auto"; "none"; "any" (or "required", True): some tool must be called; or the name of
                the tool that must be called.
            kwargs: settings of single calls, such as `force` and `forbid`.

        Raises:
            InputError: `tool_choice` names no bound tool, or a tool is none that a model can call.
        """
        own = [tool for tool in tools if isinstance(tool, VisionTool)]
        others = [as_function(tool) for tool in tools if not isinstance(tool, VisionTool)]
        names = [tool.name for tool in own] + [tool["function"]["name"] for tool in others]
        kwargs = {key: value for key, value in kwargs.items() if key not in ("strict", "parallel_tool_calls")}
        return self._joined(own).bind(
            tools=[tool.as_function() for tool in own] + others,
            skills=[tool.name for tool in own],
            tool_choice=named_choice(tool_choice, names),
            **kwargs,
        )

    def _joined(self, tools: Sequence[VisionTool]) -> Self:
        """This model, working in the sessions of the tools: they understand its handles."""
        if not tools:
            return self
        joined = self.model_copy()  # shallow: what is loaded once serves all copies
        theirs = tools[0].workspace
        if self.vlm is None and not self._workspaces and theirs.vlm.name == self.model:
            joined.vlm = theirs.vlm  # the same checkpoint is not loaded a second time
        joined._shared = theirs
        return joined

    # -- replying ------------------------------------------------------------------------------------------

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        workspace = self._workspace(kwargs)
        make = partial(self._replier, messages, stop, kwargs, self._deadline(kwargs), self._session(kwargs))
        (outcome,) = workspace.run(answer, [make], workspace)
        return _result_of(outcome)

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        cancel = self._deadline(kwargs)
        name = str(kwargs.get("model", self.model))
        loaded = name in self._workspaces or (self.vlm is not None and name == self.model)
        workspace = self._workspace(kwargs) if loaded else await asyncio.to_thread(self._workspace, kwargs)
        session = self._session(kwargs)  # of the thread that runs here: the batch runs elsewhere
        make = partial(self._replier, messages, stop, kwargs, cancel, session)
        try:
            outcome = await workspace.together("reply", make, lambda makers: answer(makers, workspace))
        except asyncio.CancelledError:
            cancel.cancel()
            raise
        return _result_of(outcome)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        workspace = self._workspace(kwargs)
        replier = self._replier(messages, stop, kwargs, self._deadline(kwargs), self._session(kwargs))
        outcome = workspace.run(replier.start)
        stripped = Stripped()
        while isinstance(outcome, Job):
            reply: GeneratedReply | None = None
            for event in job_events(outcome, workspace):
                if isinstance(event, generation.TextDelta) and outcome.streams:
                    if text := stripped.add(event.text):
                        yield ChatGenerationChunk(message=AIMessageChunk(content=text))
                elif isinstance(event, generation.ReplyDone):
                    reply = event.reply
            assert reply is not None, "a generation ends with its reply"
            outcome = workspace.run(outcome.finish, reply)
        yield from last_chunks(outcome, shown=stripped.any)

    def _replier(
        self,
        messages: Sequence[BaseMessage],
        stop: list[str] | None,
        kwargs: Mapping[str, Any],
        cancel: CancelToken,
        session: VisionSession,
    ) -> Replier:
        workspace = self._workspace(kwargs)
        return Replier(
            workspace=workspace,
            session=session,
            dialogue=read_dialogue(messages, session, workspace.vlm.engine, self._rules(workspace)),
            binding=self._binding(workspace, kwargs),
            options=self._options(stop, kwargs),
            cancel=cancel,
            name=str(kwargs.get("model", self.model)),
        )

    def _session(self, kwargs: Mapping[str, Any]) -> VisionSession:
        return (self._shared or self._workspace(kwargs)).session()

    def _deadline(self, kwargs: Mapping[str, Any]) -> Deadline:
        return Deadline(kwargs.get("timeout", self.timeout))

    def _workspace(self, kwargs: Mapping[str, Any]) -> Workspace:
        """The loaded model of a call; `model=...` at the call goes before the setting."""
        name = str(kwargs.get("model", self.model))
        if self.vlm is not None and name == self.model:
            shared: Workspace = self.vlm.workspace
            return self._shared if self._shared is not None and self._shared.vlm is self.vlm else shared
        with self._loading:
            if name not in self._workspaces:
                from visionllm_sdk.skills import VisionLLM

                vlm = VisionLLM.from_pretrained(name, device=self.device, dtype=self.dtype)
                self._workspaces[name] = vlm.workspace
            return self._workspaces[name]

    def _rules(self, workspace: Workspace) -> ImageRules:
        rules = workspace.vlm.rules
        if not self.allow_urls:
            return rules
        hosts = None if self.url_hosts is None else frozenset(self.url_hosts)
        return ImageRules(
            limits=rules.limits, allow_urls=UrlPolicy(hosts=hosts, allow_private=self.allow_private_urls)
        )

    def _options(self, stop: list[str] | None, kwargs: Mapping[str, Any]) -> GenerationOptions:
        def setting(name: str) -> Any:
            return kwargs.get(name, getattr(self, name))

        return GenerationOptions(
            max_new_tokens=setting("max_tokens") or 256,
            temperature=setting("temperature") or 0.0,
            top_p=setting("top_p"),
            top_k=setting("top_k"),
            seed=setting("seed"),
            stop=tuple(self.stop or () if stop is None else stop),
        )

    def _binding(self, workspace: Workspace, kwargs: Mapping[str, Any]) -> Binding:
        bound = "tools" in kwargs
        engine = workspace.vlm.engine
        names = kwargs.get("skills", ())
        skills = {skill.name: skill for skill in workspace.skills if not bound or skill.name in names}
        others = [
            tool["function"] for tool in kwargs.get("tools", ()) if tool["function"]["name"] not in names
        ]
        forbidden = {token for name in self._barred(kwargs) for token in engine.tokens_of(name)}
        called = {token for skill in skills.values() for token in (skill.token, *skill.before)}
        tokens = [token for token in engine.routing_tokens if token in called]
        choice = kwargs.get("tool_choice") or "auto"
        force = kwargs.get("force", self.force)
        if force is not None:
            choice = self._forced(force, engine.tokens_of(force), skills, forbidden)
        return Binding(
            skills=skills,
            functions=[function_of(one) for one in others],
            choice=choice,
            tokens=tuple(token for token in tokens if token not in forbidden),
            answer=answer_format(kwargs.get("response_format")),
            copy=self.copy_arguments,
            grounded=self.grounded,
            linked=self._shared is None or self._shared.vlm is workspace.vlm,
        )

    def _barred(self, kwargs: Mapping[str, Any]) -> Sequence[str]:
        names: str | Sequence[str] = kwargs.get("forbid", self.forbid)
        return (names,) if isinstance(names, str) else names

    @staticmethod
    def _forced(force: str, tokens: Sequence[str], skills: Mapping[str, Any], forbidden: set[str]) -> str:
        """The skill that a forced token or skill stands for."""
        fitting = [name for name, skill in skills.items() if name == force or skill.token in tokens]
        if not fitting or set(tokens) <= forbidden:
            raise InputError(
                "what is forced is forbidden, or its tool is not bound",
                value=force,
                limit=", ".join(skills) or "no skill is bound",
                remedy="Bind the tool, or correct `force` and `forbid`.",
            )
        return force if force in fitting else fitting[0]


def _result_of(outcome: Answered) -> ChatResult:
    if isinstance(outcome, VisionLLMError):
        raise outcome
    return ChatResult(generations=[ChatGeneration(message=outcome)])
