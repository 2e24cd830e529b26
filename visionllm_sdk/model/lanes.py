"""Independent pieces of work side by side on a processor's cores.

A small model leaves cores idle: most of its operations are too short to be divided among threads. Whole
pieces - an image, a few tiles - divide well, each computed by one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")


def side_by_side(
    work: Callable[[ItemT], OutcomeT], items: Sequence[ItemT], device: torch.device
) -> list[OutcomeT]:
    """`work` of every item, in order; several at once where that is quicker, which changes no result.

    One after another with gradients, away from the CPU, or where torch has one thread. Otherwise there are as
    many lanes as torch has threads, each of which computes with one. An item whose work fails does not stop
    the others; the first error in the order of the items is raised.

    Args:
        work: must not change what other items read.
        items: independent of one another.
        device: where the work is done.
    """
    lanes = min(torch.get_num_threads(), len(items))
    if lanes < 2 or device.type != "cpu" or torch.is_grad_enabled():
        return [work(item) for item in items]
    with _lanes(lanes) as pool:
        return list(pool.map(_without_gradients(work, torch.is_inference_mode_enabled()), items))


def _without_gradients(work: Callable[[ItemT], OutcomeT], inference: bool) -> Callable[[ItemT], OutcomeT]:
    """Modes belong to a thread: a lane takes over the caller's."""

    def run(item: ItemT) -> OutcomeT:
        with torch.inference_mode(inference), torch.no_grad():
            return work(item)

    return run


@contextmanager
def _lanes(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool of threads that compute with one thread each; the caller keeps its number of threads."""
    threads = torch.get_num_threads()
    with ThreadPoolExecutor(count, "lane", initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            yield pool
        finally:
            # The number also holds for threads that begin to compute later, and these are not lanes.
            torch.set_num_threads(threads)
