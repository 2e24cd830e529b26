"""The contract of a routed tool.

A routed tool is what stands behind a routing token: the token's text, the table of super-link queries that
follows it, a decoder, typed options and a typed result. The core knows this contract and no particular tool.
How tools are found says `visionllm_sdk.registry`. This module imports no torch: the contract stays instant.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
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
    "ToolRequest",
]


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
        image_key: names the content of the image: equal keys, equal pictures. What was computed of it may be
            kept under this name; empty where nobody knows one.
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
    image_key: str = ""
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
    """Routing tokens whose super-links this tool reads from ``ToolRequest.context``; those of other tools are
    needed there, see ``needed_tokens``."""
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

    @classmethod
    def needed_tokens(cls) -> tuple[str, ...]:
        """Routing tokens of other tools that have to stand before its own: it reads their super-links."""
        own = {token.text for token in cls.tokens}
        return tuple(token for token in cls.context_tokens if token not in own)

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
