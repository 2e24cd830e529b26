"""The asynchronous twins of the typed methods."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, TypeVar, Unpack, overload

from visionllm_sdk.adapters import AdapterChoice
from visionllm_sdk.images import ImageSource
from visionllm_sdk.results import Answer, Count, Detections, Grounding, Reply, SemanticMap
from visionllm_sdk.skills.arguments import Images, Labels, is_many
from visionllm_sdk.skills.gathering import Gatherer
from visionllm_sdk.skills.history import History
from visionllm_sdk.skills.talk import ChatSettings, TalkEvent

S = TypeVar("S", bound=ImageSource)


class AsyncSkills(ABC):
    """Adds ``adetect`` to ``detect``, and so on. Calls that wait at the same time run as one batch."""

    def __init__(self) -> None:
        self._gatherer = Gatherer()

    @abstractmethod
    def detect(self, image: Any, labels: Any, *, threshold: float | None = None, masks: bool = True) -> Any:
        """See ``VisionLLM.detect``."""

    @abstractmethod
    def segment(self, image: Any, labels: Any) -> Any:
        """See ``VisionLLM.segment``."""

    @abstractmethod
    def ground(
        self, image: Any, expression: Any, *, threshold: float | None = None, masks: bool = True
    ) -> Any:
        """See ``VisionLLM.ground``."""

    @abstractmethod
    def count(self, image: Any, label: Any, *, threshold: float | None = None) -> Any:
        """See ``VisionLLM.count``."""

    @abstractmethod
    def ask(self, image: Any, question: Any, regions: Any = None) -> Any:
        """See ``VisionLLM.ask``."""

    @abstractmethod
    def caption(self, image: Any) -> Any:
        """See ``VisionLLM.caption``."""

    @abstractmethod
    def chat(self, text: Any, images: Any = (), history: Any = (), **settings: Unpack[ChatSettings]) -> Any:
        """See ``VisionLLM.chat``."""

    @abstractmethod
    def stream(
        self, text: str, images: Images = (), history: History = (), **settings: Unpack[ChatSettings]
    ) -> Iterator[TalkEvent]:
        """See ``VisionLLM.stream``."""

    @overload
    async def adetect(
        self,
        image: list[S] | tuple[S, ...],
        labels: Any,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> list[Detections]: ...

    @overload
    async def adetect(
        self,
        image: ImageSource,
        labels: Labels,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Detections: ...

    async def adetect(self, image: Any, labels: Any, **settings: Any) -> Any:
        """As ``detect``, without blocking the event loop."""
        own = [labels] if isinstance(labels, str) else labels
        return await self._perform("detect", image, own, **settings)

    @overload
    async def asegment(
        self, image: list[S] | tuple[S, ...], labels: Any, *, adapter: AdapterChoice = None
    ) -> list[SemanticMap]: ...

    @overload
    async def asegment(
        self, image: ImageSource, labels: Labels, *, adapter: AdapterChoice = None
    ) -> SemanticMap: ...

    async def asegment(self, image: Any, labels: Any, **settings: Any) -> Any:
        """As ``segment``, without blocking the event loop."""
        own = [labels] if isinstance(labels, str) else labels
        return await self._perform("segment", image, own, **settings)

    @overload
    async def aground(
        self,
        image: list[S] | tuple[S, ...],
        expression: str | Sequence[str],
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> list[Grounding]: ...

    @overload
    async def aground(
        self,
        image: ImageSource,
        expression: str,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Grounding: ...

    async def aground(self, image: Any, expression: Any, **settings: Any) -> Any:
        """As ``ground``, without blocking the event loop."""
        return await self._perform("ground", image, expression, **settings)

    @overload
    async def acount(
        self,
        image: list[S] | tuple[S, ...],
        label: str | Sequence[str],
        *,
        threshold: float | None = None,
        adapter: AdapterChoice = None,
    ) -> list[Count]: ...

    @overload
    async def acount(
        self,
        image: ImageSource,
        label: str,
        *,
        threshold: float | None = None,
        adapter: AdapterChoice = None,
    ) -> Count: ...

    async def acount(self, image: Any, label: Any, **settings: Any) -> Any:
        """As ``count``, without blocking the event loop."""
        return await self._perform("count", image, label, **settings)

    @overload
    async def aask(
        self,
        image: list[S] | tuple[S, ...],
        question: str | Sequence[str],
        regions: Any = None,
        *,
        adapter: AdapterChoice = None,
    ) -> list[Answer]: ...

    @overload
    async def aask(
        self, image: ImageSource, question: str, regions: Any = None, *, adapter: AdapterChoice = None
    ) -> Answer: ...

    async def aask(self, image: Any, question: Any, regions: Any = None, **settings: Any) -> Any:
        """As ``ask``, without blocking the event loop."""
        return await self._perform("ask", image, question, regions, **settings)

    @overload
    async def acaption(
        self, image: list[S] | tuple[S, ...], *, adapter: AdapterChoice = None
    ) -> list[Answer]: ...

    @overload
    async def acaption(self, image: ImageSource, *, adapter: AdapterChoice = None) -> Answer: ...

    async def acaption(self, image: Any, **settings: Any) -> Any:
        """As ``caption``, without blocking the event loop."""
        return await self._perform("caption", image, **settings)

    @overload
    async def achat(
        self, text: str, images: Images = (), history: History = (), **settings: Unpack[ChatSettings]
    ) -> Reply: ...

    @overload
    async def achat(
        self,
        text: list[str] | tuple[str, ...],
        images: Sequence[Images] = (),
        history: Sequence[History] = (),
        **settings: Unpack[ChatSettings],
    ) -> list[Reply]: ...

    async def achat(
        self, text: Any, images: Any = (), history: Any = (), **settings: Unpack[ChatSettings]
    ) -> Any:
        """As ``chat``, without blocking the event loop."""
        alone = is_many(text) or {"options", "cancel", "regions"} & settings.keys()
        if alone:
            return await asyncio.to_thread(self.chat, text, images, history, **settings)

        def run(items: Sequence[tuple[Any, Any, Any]]) -> Sequence[Reply]:
            if len(items) == 1:
                return [self.chat(*items[0], **settings)]
            columns = [list(column) for column in zip(*items, strict=True)]
            replies: list[Reply] = self.chat(*columns, **settings)
            return replies

        return await self._gatherer.submit(_key("chat", dict(settings)), (text, images, history), run)

    async def astream(
        self, text: str, images: Images = (), history: History = (), **settings: Unpack[ChatSettings]
    ) -> AsyncIterator[TalkEvent]:
        """As ``stream``, without blocking the event loop."""
        events = self.stream(text, images, history, **settings)
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event

    async def _perform(self, skill: str, image: Any, *arguments: Any, **settings: Any) -> Any:
        """Call a typed method, together with the calls of its kind that wait at the same time."""
        method = getattr(self, skill)
        if is_many(image):
            return await asyncio.to_thread(method, image, *arguments, **settings)

        def run(items: Sequence[tuple[Any, ...]]) -> Sequence[Any]:
            if len(items) == 1:
                return [method(*items[0], **settings)]
            columns = [list(column) for column in zip(*items, strict=True)]
            results: Sequence[Any] = method(*columns, **settings)
            return results

        return await self._gatherer.submit(_key(skill, settings), (image, *arguments), run)


def _key(skill: str, settings: dict[str, Any]) -> tuple[Any, ...]:
    """Equal for calls that one batch can answer."""
    values = ((name, tuple(v) if isinstance(v, list) else v) for name, v in sorted(settings.items()))
    return (skill, *values)
