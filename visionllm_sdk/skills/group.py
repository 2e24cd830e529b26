"""What all groups of typed methods share: the model, the image rules, and asynchronous calls in batches."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, TypeVar

from visionllm_sdk.adapters import AdapterChoice, by_adapter, each_adapter
from visionllm_sdk.skills.arguments import ImageRules, Many, is_many
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.gathering import Gatherer
from visionllm_sdk.skills.perception import Perception, perceive

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
_COMPARED: Final = (str, int, float, bool, type(None))
"""Types of settings that are alike where they are equal; anything else is like itself only."""


class SkillGroup:
    """Base of the classes that `VisionLLM` is made of. Each typed method has an asynchronous twin beside it.

    Args:
        engine: runs requests on the loaded checkpoint.
        rules: which images are accepted.
    """

    def __init__(self, engine: Engine, rules: ImageRules) -> None:
        self.engine = engine
        self.rules = rules
        self._gatherer = Gatherer()

    def _perceive(
        self, images: Many[Any], items: Sequence[Perception], kind: type[ResultT], adapter: AdapterChoice
    ) -> list[ResultT]:
        """Results of type `kind`, one for each item, each with the adapter chosen for its image."""
        return self._each(images, items, lambda part: perceive(self.engine, part, kind), adapter)

    def _each(
        self,
        images: Many[Any],
        items: Sequence[ItemT],
        run: Callable[[Sequence[ItemT]], Sequence[ResultT]],
        adapter: AdapterChoice,
    ) -> list[ResultT]:
        """What `run` makes of items, one for each image, each with the adapter chosen for its image."""
        return by_adapter(self.engine, each_adapter(adapter, len(items), single=images.single), items, run)

    async def _perform(
        self,
        method: Callable[..., Any],
        arguments: tuple[Any, ...],
        settings: Mapping[str, Any],
        *,
        alone: bool | None = None,
    ) -> Any:
        """Call a typed method without blocking the event loop.

        Args:
            method: the typed method. Given a list of each argument, it returns a list.
            arguments: of one request.
            settings: requests that wait at the same time and agree in these are answered as one batch.
            alone: do not batch with others; None: when the first argument is a list already. So is a call
                with something else for an adapter than its name.
        """
        alone = is_many(arguments[0]) if alone is None else alone
        # A list of adapters would be dealt out to the calls of a batch, whose items are not the caller's.
        if alone or not isinstance(settings.get("adapter"), str | None):
            return await asyncio.to_thread(method, *arguments, **settings)

        def run(items: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
            if len(items) == 1:
                return [method(*items[0], **settings)]
            columns = [list(column) for column in zip(*items, strict=True)]
            results: Sequence[Any] = method(*columns, **settings)
            return results

        return await self._gatherer.submit(_key(method.__name__, settings), arguments, run)


def _key(skill: str, settings: Mapping[str, Any]) -> tuple[Any, ...]:
    """Equal for calls that one batch can answer."""
    return (skill, *((name, _plain(value)) for name, value in sorted(settings.items())))


def _plain(value: Any) -> Hashable:
    """Something that can be compared in the place of a setting, which may be wrong and of any type.

    Only plain values are compared: tensors and arrays answer with as many truths as they have elements. The
    type belongs to it, since True equals 1 and one of them may be wrong.
    """
    if isinstance(value, list | tuple):
        return tuple(map(_plain, value))
    return type(value), value if type(value) in _COMPARED else id(value)
