"""Import of optional dependencies: here, or an error that holds the exact install command."""

from __future__ import annotations

import importlib
from types import ModuleType

from visionllm_sdk.errors import MissingExtraError

__all__ = ["import_extra"]


def import_extra(module: str, *, extra: str) -> ModuleType:
    """Import `module`, which the extra `visionllm-sdk[extra]` installs.

    Raises:
        MissingExtraError: the package is not installed. An import error *inside* an installed package is
        passed
            on as it is: installing the extra again would not cure it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise MissingExtraError(module.split(".")[0], extra=extra) from error
