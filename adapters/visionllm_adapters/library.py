"""PEFT as it is used here: an optional package, and one that talks too much."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from visionllm_sdk.extras import import_extra


@contextmanager
def peft_library() -> Iterator[Any]:
    """The `peft` package, without its notes on names that transformers will drop in a later version.

    Raises:
        MissingExtraError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
        yield import_extra("peft", extra="finetune")
