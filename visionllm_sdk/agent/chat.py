"""`ChatVisionLLM`: the model as a LangChain chat model."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable
from langchain_core.tools import BaseTool
from langchain_core.utils import from_env
from pydantic import ConfigDict, Field, PrivateAttr, SecretStr, ValidationError, field_validator

from visionllm_sdk import generation
from visionllm_sdk.agent.binding import binding_of
from visionllm_sdk.agent.choices import as_function, named_choice
from visionllm_sdk.agent.counting import count_tokens
from visionllm_sdk.agent.dialogue import read_dialogue
from visionllm_sdk.agent.replies import Replier
from visionllm_sdk.agent.requests import Job
from visionllm_sdk.agent.running import Answered, Deadline, Stripped, answer, job_events, last_chunks
from visionllm_sdk.agent.sessions import VisionSession
from visionllm_sdk.agent.tools import VisionTool
from visionllm_sdk.agent.workspace import Loaded, Workspace
from visionllm_sdk.errors import InputError, VisionLLMError
from visionllm_sdk.fetch import UrlPolicy
from visionllm_sdk.generation import CancelToken, GeneratedReply, GenerationOptions
from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.loading import EMBEDDED

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

__all__ = ["ChatVisionLLM"]

_SETTINGS: Final = (
    *("model", "device", "dtype", "temperature", "max_tokens", "top_p", "top_k", "seed", "stop", "timeout"),
    *("force", "forbid", "grounded", "copy_arguments", "allow_urls", "url_hosts", "allow_private_urls"),
)
_AT_CALLS: Final = (
    *("model", "temperature", "max_tokens", "top_p", "top_k", "seed", "timeout", "force", "forbid"),
    *("tools", "skills", "tool_choice", "parallel_tool_calls", "strict", "response_format"),
)


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
        max_tokens: most tokens of a reply. Calls, structured output, and reports of tools that are passed on
            word for word are always written to their end.
        top_p: share of the probability that is sampled from.
        top_k: number of tokens that are sampled from; 0 is all.
        seed: of sampling.
        stop: texts before which a reply ends.
        timeout: seconds after which a request is cancelled.
        max_retries: as `api_key`.
        api_key: standard settings of chat models, without meaning here: the model runs on this machine.
        force: routing token or skill that a reply must use.
        forbid: routing tokens or skills that it must not use.
        grounded: the turn after tool messages says what they reported and nothing else.
        copy_arguments: labels, and texts and numbers in calls of other people's tools, are taken from what
            the user said, where that offers any. Sensible for small checkpoints; large ones may write freely.
        allow_urls: whether image URLs are fetched.
        url_hosts: the only hosts from which they are fetched.
        allow_private_urls: also from addresses of this machine and its network.
        vlm: a loaded model to be used instead of loading one; not part of the serialised form.
        loaded: what was loaded by name, shared with copies of other settings; not part of it, either.

    Raises:
        InputError: a setting that is unknown, or has a value that is not allowed.
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
    max_retries: int | None = Field(default=None, exclude=True, repr=False)
    api_key: SecretStr | None = Field(default=None, exclude=True, repr=False)
    streaming: bool = False
    force: str | None = None
    forbid: list[str] = Field(default_factory=list)
    grounded: bool = True
    copy_arguments: bool = True
    allow_urls: bool = False
    url_hosts: list[str] | None = None
    allow_private_urls: bool = False
    vlm: Any = Field(default=None, exclude=True, repr=False)
    loaded: Any = Field(default_factory=lambda: Loaded(_load), exclude=True, repr=False)

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=(), extra="forbid")

    _shared: Workspace | None = PrivateAttr(default=None)

    def __init__(self, *args: Any, **settings: Any) -> None:
        try:
            super().__init__(*args, **settings)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise InputError(
                f"setting `{'.'.join(map(str, first['loc']))}` of the chat model: {first['msg']}",
                value=first["input"],
                remedy=f"Its settings are {', '.join(sorted(_SETTINGS))}.",
            ) from error

    @field_validator("stop", "forbid", "url_hosts", mode="before")
    @classmethod
    def _one_or_several(cls, given: Any) -> Any:
        return [given] if isinstance(given, str) else given

    # -- what it is ----------------------------------------------------------------------------------------

    @property
    def _llm_type(self) -> str:
        return "visionllm"

    @property
    def _identifying_params(self) -> Mapping[str, Any]:
        names = ("model", "temperature", "max_tokens", "top_p", "top_k", "seed", "stop", "force", "forbid")
        return {name: getattr(self, name) for name in names}

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        # Replies name handles, which mean nothing in another session: a cache must keep sessions apart.
        return f"{super()._get_llm_string(stop=stop, **kwargs)}---{self._session(kwargs).name}"

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
        config = None if self.vlm is None else self.vlm.engine.model.core.llm.config
        positions = None if config is None else int(config.max_position_embeddings)
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
            **({} if positions is None else {"max_input_tokens": positions - 1}),
        )

    def get_token_ids(self, text: str) -> list[int]:
        """Ids of a text in the checkpoint's vocabulary. No control token comes out, whatever it spells."""
        ids: list[int] = self._workspace({}).vlm.engine.model.tokenizer.encode_user_text(text)
        return ids

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """Tokens of messages and their images; schemas of tools take none. See :func:`count_tokens`."""
        workspace = self._workspace({})
        return count_tokens(messages, self._session({}), workspace.vlm.engine, self._rules(workspace))

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
            kwargs: settings of single calls, such as `force` and `forbid`; `parallel_tool_calls=False` lets a
                reply call the first of its tools only.

        Raises:
            InputError: `tool_choice` names no bound tool, or a tool is none that a model can call.
        """
        own = [tool for tool in tools if isinstance(tool, VisionTool)]
        others = [as_function(tool) for tool in tools if not isinstance(tool, VisionTool)]
        names = [tool.name for tool in own] + [tool["function"]["name"] for tool in others]
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
        if self.vlm is None and not self.loaded and theirs.vlm.name == self.model:
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
        name = self._name(kwargs)
        at_hand = (name, self.device, self.dtype) in self.loaded or (
            self.vlm is not None and name == self.model
        )
        workspace = self._workspace(kwargs) if at_hand else await asyncio.to_thread(self._workspace, kwargs)
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
        if unknown := sorted(set(kwargs) - set(_AT_CALLS)):
            raise InputError(
                "a call of the chat model has settings that it does not know",
                value=unknown,
                limit=", ".join(("stop", *_AT_CALLS)),
                remedy="Correct the name, or leave it out.",
            )
        workspace = self._workspace(kwargs)
        return Replier(
            workspace=workspace,
            session=session,
            dialogue=read_dialogue(messages, session, workspace.vlm.engine, self._rules(workspace)),
            binding=binding_of(
                workspace,
                {"force": self.force, "forbid": self.forbid, **kwargs},
                copy=self.copy_arguments,
                grounded=self.grounded,
                linked=self._shared is None or self._shared.vlm is workspace.vlm,
            ),
            options=self._options(stop, kwargs),
            cancel=cancel,
            name=self._name(kwargs),
        )

    def _session(self, kwargs: Mapping[str, Any]) -> VisionSession:
        return (self._shared or self._workspace(kwargs)).session()

    def _deadline(self, kwargs: Mapping[str, Any]) -> Deadline:
        return Deadline(kwargs.get("timeout", self.timeout))

    def _workspace(self, kwargs: Mapping[str, Any]) -> Workspace:
        """The loaded model of a call; `model=...` at the call goes before the setting."""
        name = self._name(kwargs)
        if self.vlm is not None and name == self.model:
            shared: Workspace = self.vlm.workspace
            return self._shared if self._shared is not None and self._shared.vlm is self.vlm else shared
        workspace: Workspace = self.loaded.workspace(name, self.device, self.dtype)
        return workspace

    def _name(self, kwargs: Mapping[str, Any]) -> str:
        return str(kwargs.get("model", self.model))

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
            stop=tuple([stop] if isinstance(stop, str) else self.stop or () if stop is None else stop),
        )


def _load(name: str, device: str | None, dtype: str | None) -> VisionLLM:
    from visionllm_sdk.skills import VisionLLM

    return VisionLLM.from_pretrained(name, device=device, dtype=dtype)


def _result_of(outcome: Answered) -> ChatResult:
    if isinstance(outcome, VisionLLMError):
        raise outcome
    return ChatResult(generations=[ChatGeneration(message=outcome)])
