"""A decoder's section of the released `config.json`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from visionllm_sdk.errors import ConfigError

N = TypeVar("N")


def section_of(
    config: Mapping[str, Any],
    *,
    switch: str,
    name: str,
    parse: Callable[[Mapping[str, Any]], N],
    width: str = "l_hidden_size",
) -> N | None:
    """The numbers of a decoder that reads super-links.

    Args:
        config: the whole `config.json`.
        switch: key that says whether the checkpoint has the decoder.
        name: key of its section.
        parse: makes numbers of the section.
        width: which of the numbers is the width of super-links.

    Returns:
        None if the switch is off.

    Raises:
        ConfigError: the section is missing, or for a language model of another width.
    """
    if not config.get(switch):
        return None
    if not isinstance(config.get(name), Mapping):
        raise ConfigError(
            f"{switch} is set, but {name} is missing",
            remedy=f"Add {name} to config.json, or set {switch} to false.",
        )
    numbers = parse(config[name])
    own, wanted = getattr(numbers, width), config["llm_config"]["hidden_size"]
    if own != wanted:
        raise ConfigError(
            f"{name}.{width} differs from the width of the language model",
            value=own,
            limit=wanted,
            remedy="Correct config.json: both describe the super-link states.",
        )
    return numbers
