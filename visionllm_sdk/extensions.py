"""What other packages add to the core, found by entry points like tools are.

The group `visionllm_sdk.extensions` knows the names `adapters` (see `visionllm_sdk.adapters`), `commands`
(adds commands to the command line) and `evaluate` (measures a model on a user's data).
"""

from __future__ import annotations

import importlib.metadata
from typing import Any

from visionllm_sdk.errors import ConfigError

__all__ = ["has_extension", "load_extension"]

_GROUP = "visionllm_sdk.extensions"


def has_extension(name: str) -> bool:
    """Whether an installed package offers the extension."""
    return bool(importlib.metadata.entry_points(group=_GROUP, name=name))


def load_extension(name: str) -> Any:
    """What an installed package offers under a name; the first by package name, if several do.

    Raises:
        ConfigError: none does.
    """
    found = sorted(importlib.metadata.entry_points(group=_GROUP, name=name), key=lambda point: point.value)
    if not found:
        raise ConfigError(
            "no installed package offers this extension",
            value=name,
            remedy="Reinstall visionllm-sdk: its distribution holds visionllm_adapters, too.",
        )
    return found[0].load()
