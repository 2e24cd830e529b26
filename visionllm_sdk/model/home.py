"""Where tensors begin that are made without a device."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def starts_in_main_memory() -> Iterator[None]:
    """The time in which tensors made without a device are in main memory, as everything here expects.

    A program may have set another default (`torch.set_default_device`), which stays as it is for it.
    """
    if torch.get_default_device().type == "cpu":  # the usual case: the context would slow every operation
        yield
        return
    with torch.device("cpu"):
        yield
