"""How routed tools are found, and looked up by name and by routing token.

A package offers a tool by one class and one entry point in the group ``visionllm_sdk.tools``::

    [project.entry-points."visionllm_sdk.tools"]
    depth = "my_package.depth.tool:DepthTool"

This module imports no torch: discovery of names stays instant.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Iterator, Sequence

from visionllm_sdk.errors import ToolError
from visionllm_sdk.tokens import RoutingToken
from visionllm_sdk.tool import RoutedTool, ToolClass

__all__ = ["ENTRY_POINT_GROUP", "ToolRegistry", "discover_tools"]

ENTRY_POINT_GROUP = "visionllm_sdk.tools"

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
            ToolError: an unknown name, or a tool without another one that it cannot do without.
        """
        chosen = ToolRegistry([self.by_name(name) for name in names])
        for tool in chosen:
            for token in tool.needed_tokens():
                if token in self._by_token and token not in chosen.token_texts:
                    needed = self.by_token(token).name
                    raise ToolError(
                        f"tool {tool.name!r} does not work without {needed!r}: it reads what {token} says",
                        value=list(names),
                        limit=", ".join(self.names),
                        remedy=f"Name {needed!r}, too.",
                    )
        return chosen


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
