"""The contract of a routed tool, and how tools are found.

A routed tool is what stands behind a routing token: the token's text, the table of super-link queries that
follows it, a decoder, typed options and a typed result. The core knows this contract and no particular tool.
A package offers a tool by one class and one entry point in the group ``visionllm_sdk.tools``::

    [project.entry-points."visionllm_sdk.tools"]
    depth = "my_package.depth.tool:DepthTool"

This module imports no torch: contract and discovery of names stay instant.
"""

from __future__ import annotations

import importlib.metadata
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from visionllm_sdk.errors import ToolError
from visionllm_sdk.tokens import ForcedLayout, QueryTable, RoutingToken

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor, nn

    from visionllm_sdk.model.keys import KeyTable

__all__ = [
    "ENTRY_POINT_GROUP",
    "ForcedLayout",
    "OptionsT",
    "QueryTable",
    "ResultT",
    "RoutedTool",
    "RoutingToken",
    "SuperLink",
    "ToolClass",
    "ToolDescription",
    "ToolLoss",
    "ToolOptions",
    "ToolRegistry",
    "ToolRequest",
    "discover_tools",
]

ENTRY_POINT_GROUP = "visionllm_sdk.tools"


class ToolOptions(BaseModel):
    """Base of a tool's typed arguments. Every field needs a default: free routing calls with defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OptionsT = TypeVar("OptionsT", bound=ToolOptions)
ResultT = TypeVar("ResultT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SuperLink:
    """One occurrence of a routing token: its label and the hidden states at its queries.

    Attributes:
        token: routing token, ``[DET]``.
        label: the text span it belongs to; empty where the answer names none (``Here it is [GEN]``).
        states: last-layer hidden states after the final norm. (E, C) float
    """

    token: str
    label: str
    states: Tensor  # (E, C)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolRequest(Generic[OptionsT]):
    """One item of a batched tool call.

    Attributes:
        token: routing token that called.
        links: the super-links of this call in the order of the answer, all of them with ``token``.
        options: typed arguments.
        image: the loaded RGB image at its full resolution; None if the conversation has none.
        context: super-links of other tokens that stood before in the same answer (a pose estimator reads the
            object classes from the ``[DET]`` links here).
        instruction: the user's text of this turn.

    Raises:
        ToolError: no super-link.
    """

    token: str
    links: tuple[SuperLink, ...]
    options: OptionsT
    image: Image | None = None
    context: tuple[SuperLink, ...] = ()
    instruction: str = ""

    def __post_init__(self) -> None:
        if not self.links:
            raise ToolError(f"a {self.token} call carries no super-link", remedy="Pass at least one.")

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels in the order of the answer."""
        return tuple(link.label for link in self.links)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ToolLoss:
    """Training loss of a batch.

    Attributes:
        total: scalar to add to the language loss (unweighted sum, paper section 3.4).
        terms: named scalars, already weighted, for the log.
    """

    total: Tensor  # ()
    terms: Mapping[str, Tensor] = field(default_factory=dict)


class ToolDescription(BaseModel):
    """What a program or a language model needs to know to call a tool. JSON-safe."""

    model_config = ConfigDict(frozen=True)

    name: str
    description: str
    tokens: dict[str, str]
    needs_image: bool
    options_schema: dict[str, Any]
    result_schema: dict[str, Any]


class RoutedTool(ABC, Generic[OptionsT, ResultT]):
    """A routed tool: subclass, set the class attributes, implement ``from_config``, ``run`` and ``loss``.

    An instance owns its decoder; the core moves it between devices and loads its weights from the checkpoint
    keys ``checkpoint_prefix + <state-dict key of decoder>``, unless ``key_table`` says otherwise.
    """

    name: ClassVar[str]
    """Short verb by which users select the tool, ``detect``."""
    description: ClassVar[str]
    """What it does, for people and for language models that choose tools."""
    tokens: ClassVar[tuple[RoutingToken, ...]]
    table: ClassVar[QueryTable]
    checkpoint_prefix: ClassVar[str]
    """Released key prefix of the decoder, ``gdino.``."""
    needs_image: ClassVar[bool] = True
    context_tokens: ClassVar[tuple[str, ...]] = ()
    """Routing tokens of other tools whose super-links this tool reads from ``ToolRequest.context``."""
    options_type: type[OptionsT]
    result_type: type[ResultT]

    def __init__(self, decoder: nn.Module) -> None:
        self.decoder = decoder

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Build the tool with an uninitialised-or-random decoder from the released configuration dict.

        Args:
            config: the whole ``config.json``; the width of the language model is
                ``config["llm_config"]["hidden_size"]``.

        Returns:
            The tool, or None if this checkpoint has no such decoder (``use_gdino`` false or absent).

        Raises:
            ConfigError: the tool's section exists and is wrong.
        """

    @classmethod
    def described(cls, config: Mapping[str, Any]) -> bool | None:
        """Whether a checkpoint has this tool, for a tool that need not be built to know.

        Such a tool is built, and its weights are compared with its decoder, when it is first used: right for
        decoders whose library is large or optional. None, as here: the tool is built to see.

        Args:
            config: as for :meth:`from_config`.

        Raises:
            ConfigError: the tool's section exists and is wrong.
        """
        return None

    @abstractmethod
    def run(self, requests: Sequence[ToolRequest[OptionsT]]) -> list[ResultT]:
        """Decode a batch; result i belongs to request i, whatever the mix of tokens, sizes and options."""

    @abstractmethod
    def loss(self, requests: Sequence[ToolRequest[OptionsT]], targets: Sequence[Any]) -> ToolLoss:
        """Training loss of a batch. Gradients flow into the decoder and through ``SuperLink.states``.

        Args:
            requests: as for :meth:`run`, with states that require gradients.
            targets: one ground truth per request, of the type that the tool documents.
        """

    def read(self, token: str, states: Tensor) -> Tensor:
        """What the decoder makes of a super-link before it looks at anything: the same here, the same result.

        Where training must not change what a super-link means, this is compared: what is a small change of
        the states may be a large one here.

        Args:
            token: one of the tool's own, or of ``context_tokens``.
            states: as in :class:`SuperLink`. (E, C)

        Returns:
            Numbers of any shape; the states themselves if not overridden.
        """
        return states

    def key_table(self) -> KeyTable | None:
        """How released keys become ``checkpoint_prefix + <state-dict key>``; None where they are the same."""
        return None

    def compiled_parts(self) -> Iterable[nn.Module]:
        """Modules of the decoder that ``compile=True`` compiles, each by itself; none if not overridden.

        Their input shapes should be few: every new one may be compiled anew.
        """
        return ()

    @classmethod
    def describe(cls) -> ToolDescription:
        """Name, purpose and JSON schemas of the tool."""
        return ToolDescription(
            name=cls.name,
            description=cls.description,
            tokens={token.text: token.purpose or cls.description for token in cls.tokens},
            needs_image=cls.needs_image,
            options_schema=cls.options_type.model_json_schema(),
            result_schema=cls.result_type.model_json_schema(),
        )


ToolClass = type[RoutedTool[Any, Any]]

_CONTRACT = (
    "name",
    "description",
    "tokens",
    "table",
    "checkpoint_prefix",
    "options_type",
    "result_type",
)


class ToolRegistry:
    """The tool classes in use, by name and by routing token. Immutable.

    Args:
        tools: tool classes; names, routing tokens and prefixes must be distinct.

    Raises:
        ToolError: a class breaks the contract, or two classes collide.
    """

    def __init__(self, tools: Iterable[ToolClass] = ()) -> None:
        self._by_name: dict[str, ToolClass] = {}
        self._by_token: dict[str, tuple[ToolClass, RoutingToken]] = {}
        for tool in tools:
            _check_contract(tool)
            self._add(tool)

    def _add(self, tool: ToolClass) -> None:
        if tool.name in self._by_name:
            raise ToolError(
                f"two tools share one name: {_where(self._by_name[tool.name])} and {_where(tool)}",
                value=tool.name,
                remedy="Uninstall or rename one of them.",
            )
        for other in self._by_name.values():
            if other.checkpoint_prefix == tool.checkpoint_prefix:
                raise ToolError(
                    f"tools {other.name!r} and {tool.name!r} claim the same checkpoint prefix",
                    value=tool.checkpoint_prefix,
                    remedy="Give one of them another prefix.",
                )
        for token in tool.tokens:
            if token.text in self._by_token:
                raise ToolError(
                    f"two tools claim one routing token: {_where(self._by_token[token.text][0])} "
                    f"and {_where(tool)}",
                    value=token.text,
                    remedy="Uninstall one of them, or choose with tools=[...].",
                )
            self._by_token[token.text] = (tool, token)
        self._by_name[tool.name] = tool

    def __iter__(self) -> Iterator[ToolClass]:
        return iter(self._by_name.values())

    def __len__(self) -> int:
        return len(self._by_name)

    def __contains__(self, name: object) -> bool:
        return name in self._by_name

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all tools."""
        return tuple(self._by_name)

    @property
    def token_texts(self) -> tuple[str, ...]:
        """All routing tokens."""
        return tuple(self._by_token)

    def by_name(self, name: str) -> ToolClass:
        """The tool called ``name``.

        Raises:
            ToolError: no such tool; the message lists the known ones.
        """
        if name not in self._by_name:
            raise ToolError(
                "unknown tool",
                value=name,
                limit=", ".join(self.names) or "none is installed",
                remedy="Install the package that offers it, or correct the name.",
            )
        return self._by_name[name]

    def by_token(self, text: str) -> ToolClass:
        """The tool behind a routing token.

        Raises:
            ToolError: no tool claims it.
        """
        return self._entry(text)[0]

    def token(self, text: str) -> RoutingToken:
        """The declaration of a routing token.

        Raises:
            ToolError: no tool claims it.
        """
        return self._entry(text)[1]

    def _entry(self, text: str) -> tuple[ToolClass, RoutingToken]:
        if text not in self._by_token:
            raise ToolError(
                "no tool claims this routing token",
                value=text,
                limit=", ".join(self.token_texts) or "none is installed",
                remedy="Install the package that offers it, or correct the spelling.",
            )
        return self._by_token[text]

    def select(self, names: Sequence[str]) -> ToolRegistry:
        """A registry with only the named tools.

        Raises:
            ToolError: an unknown name.
        """
        return ToolRegistry([self.by_name(name) for name in names])


def _where(tool: ToolClass) -> str:
    return f"{tool.__module__}.{tool.__qualname__}"


def _check_contract(tool: object) -> None:
    if not (isinstance(tool, type) and issubclass(tool, RoutedTool)):
        raise ToolError(
            "a registered tool is not a subclass of visionllm_sdk.tool.RoutedTool",
            value=tool,
            remedy="Register the class itself.",
        )
    missing = [attribute for attribute in _CONTRACT if not hasattr(tool, attribute)]
    if missing:
        raise ToolError(
            f"tool class {_where(tool)} lacks {', '.join(missing)}", remedy="Set them as class attributes."
        )
    if not tool.tokens:
        raise ToolError(f"tool {tool.name!r} declares no routing token", remedy="Declare at least one.")
    if not tool.checkpoint_prefix.endswith("."):
        raise ToolError(
            f"tool {tool.name!r} has a malformed checkpoint_prefix",
            value=tool.checkpoint_prefix,
            remedy="End it with a dot.",
        )
    required = [name for name, info in tool.options_type.model_fields.items() if info.is_required()]
    if required:
        raise ToolError(
            f"tool {tool.name!r} has options without a default value",
            value=required,
            remedy="Give each a default: free routing calls a tool without arguments.",
        )


def discover_tools(group: str = ENTRY_POINT_GROUP) -> ToolRegistry:
    """Load every tool that an installed package offers through the entry-point group.

    Raises:
        ToolError: an entry point cannot be imported or breaks the contract; the message names the package.
    """
    tools: list[ToolClass] = []
    for point in sorted(importlib.metadata.entry_points(group=group), key=lambda point: point.name):
        package = point.dist.name if point.dist else "an unknown package"
        try:
            tools.append(point.load())
        except (ImportError, AttributeError) as error:
            raise ToolError(
                f"tool {point.name!r} of package {package} cannot be imported: {error}",
                value=point.value,
                remedy="Reinstall or uninstall that package.",
            ) from error
    return ToolRegistry(tools)
