"""Calls that wait at the same time are answered together, as one batch."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from visionllm_sdk.errors import VisionLLMError

Run: TypeAlias = Callable[[Sequence[Any]], Sequence[Any]]
"""Answers several items at once; result i belongs to item i."""


@dataclass(frozen=True, eq=False)
class _Waiting:
    key: Hashable
    item: Any
    run: Run
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any] = field(repr=False)

    def settle(self, result: Any, error: BaseException | None) -> None:
        """Hand the outcome over to the caller's event loop, if that is still there."""

        def deliver() -> None:
            if self.future.done():
                return  # the caller has given up
            if error is not None:
                self.future.set_exception(error)
            else:
                self.future.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self.loop.call_soon_threadsafe(deliver)


class Gatherer:
    """Collects asynchronous calls while the model is busy and runs those of a kind together.

    Args:
        limit: most calls in one batch.
    """

    def __init__(self, limit: int = 16) -> None:
        self._limit = limit
        self._waiting: deque[_Waiting] = deque()
        self._busy = False
        self._lock = threading.Lock()

    async def submit(self, key: Hashable, item: Any, run: Run) -> Any:
        """The answer to one item.

        Args:
            key: items of equal key may be answered together. Comparing it with others must not raise.
            item: what to answer.
            run: answers items of this key. If a batch fails, every item is tried by itself, so that an error
                reaches its own caller only.
        """
        hash(key)  # raises TypeError here, and not where nobody waits for it
        loop = asyncio.get_running_loop()
        waiting = _Waiting(key, item, run, loop, loop.create_future())
        with self._lock:
            self._waiting.append(waiting)
            starts, self._busy = not self._busy, True
        if starts:
            # After the tasks that are ready now, so that they are in the first batch.
            loop.call_soon(lambda: loop.run_in_executor(None, self._work))
        return await waiting.future

    def _work(self) -> None:
        while batch := self._next_batch():
            for waiting, (result, error) in zip(batch, _outcomes(batch), strict=True):
                waiting.settle(result, error)

    def _next_batch(self) -> list[_Waiting]:
        with self._lock:
            waiting = [one for one in self._waiting if not one.future.cancelled()]
            batch = [one for one in waiting if one.key == waiting[0].key][: self._limit]
            self._waiting = deque(one for one in waiting if one not in batch)
            self._busy = bool(batch)
            return batch


def _outcomes(batch: Sequence[_Waiting]) -> list[tuple[Any, BaseException | None]]:
    try:
        results = batch[0].run([one.item for one in batch])
        return [(result, None) for _, result in zip(batch, results, strict=True)]
    except VisionLLMError as error:
        if len(batch) == 1:
            return [(None, error)]
        return [outcome for one in batch for outcome in _outcomes([one])]
    except Exception as error:  # noqa: BLE001 - a fault must reach the caller that waits for it
        return [(None, error) for _ in batch]
