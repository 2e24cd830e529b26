"""Independent pieces of work side by side on a processor's cores.

A small model leaves cores idle: most of its operations are too short to be divided among threads. Whole
pieces - an image, a few tiles - divide well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

ItemT = TypeVar("ItemT")
OutcomeT = TypeVar("OutcomeT")

_MOST = 4
"""Lanes take turns in the interpreter, where they spend a fifth of their time: more of them would wait."""

_starting = threading.Lock()
"""Held while torch's number of threads is read, and while lanes start, when it is not the caller's."""


def side_by_side(
    work: Callable[[ItemT], OutcomeT], items: Sequence[ItemT], device: torch.device
) -> list[OutcomeT]:
    """`work` of every item, in order; several at once where that is quicker, which changes no result.

    One after another with gradients, away from the CPU, or where torch has one thread. Otherwise there are as
    many lanes as torch has threads, up to a limit; each computes with its share of these. An item whose work
    fails does not stop the others; the first error in the order of the items is raised.

    Args:
        work: must not change what other items read.
        items: independent of one another.
        device: where the work is done.
    """
    lanes = min(_lanes_on(device), len(items))
    if lanes < 2 or torch.is_grad_enabled():
        return [work(item) for item in items]
    with _lanes(lanes) as pool:
        return list(pool.map(_without_gradients(work, torch.is_inference_mode_enabled()), items))


def shares(keys: Sequence[Hashable], device: torch.device) -> list[list[int]]:
    """Positions of items, shared out among lanes: one share for each, and items of equal key in one share.

    Args:
        keys: one for each item. What costs most must be needed only once for equal ones.
        device: where the work is done.
    """
    groups: dict[Hashable, list[int]] = {}
    for position, key in enumerate(keys):
        groups.setdefault(key, []).append(position)
    parts: list[list[int]] = [[] for _ in range(_lanes_on(device))]
    for members in groups.values():
        min(parts, key=len).extend(members)
    return [part for part in parts if part]


def even_parts(count: int, most: int, device: torch.device) -> list[int]:
    """Sizes of parts, nearly equal and of at most `most` items, so that all lanes have something to do.

    Args:
        count: number of items.
        most: how many one part may hold, at least 1.
        device: where the work is done.
    """
    lanes = _lanes_on(device)
    parts = min(-(-count // (most * lanes)) * lanes, count)
    return [(i + 1) * count // parts - i * count // parts for i in range(parts)]


def _lanes_on(device: torch.device) -> int:
    return min(_threads(), _MOST) if device.type == "cpu" else 1


def _threads() -> int:
    """How many threads torch computes with here; a thread that never asked before keeps this number."""
    with _starting:
        return torch.get_num_threads()


def _without_gradients(work: Callable[[ItemT], OutcomeT], inference: bool) -> Callable[[ItemT], OutcomeT]:
    """Modes belong to a thread: a lane takes over the caller's."""

    def run(item: ItemT) -> OutcomeT:
        with torch.inference_mode(inference), torch.no_grad():
            return work(item)

    return run


@contextmanager
def _lanes(count: int) -> Iterator[ThreadPoolExecutor]:
    """A pool whose members share the caller's threads; the caller keeps their number.

    Torch's number of threads is each thread's own, but who sets it also sets the common one: what a thread
    that begins to compute takes over, for the rest of its life. So all lanes start at once, and the common
    number, which may be another than the caller's, is back before they work. Only a new thread can read it.
    """
    started = threading.Barrier(count + 1)
    with _starting, ThreadPoolExecutor(1, "beside lanes") as other:
        common = other.submit(torch.get_num_threads).result()
        own = max(1, torch.get_num_threads() // count)
        pool = ThreadPoolExecutor(count, "lane", initializer=_begin, initargs=(own, started))
        try:
            for _ in range(count):  # none is idle before all have started, so that each starts another
                pool.submit(int)
            started.wait()
        except BaseException:
            started.abort()  # those that have started would wait for ever
            pool.shutdown(cancel_futures=True)
            raise
        finally:
            other.submit(torch.set_num_threads, common).result()
    with pool:
        yield pool


def _begin(own: int, started: threading.Barrier) -> None:
    """Begin a lane of `own` threads."""
    torch.get_num_threads()  # a thread takes over the common number when it first asks, and only then
    torch.set_num_threads(own)
    started.wait()
