"""Words in, words out: questions, captions, and messages whose skill the model chooses itself."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar, Unpack, overload

from visionllm_sdk.adapters import AdapterChoice, by_adapter, each_adapter
from visionllm_sdk.errors import InputError
from visionllm_sdk.generation import CancelToken, GenerationOptions
from visionllm_sdk.images import ImageSource
from visionllm_sdk.results import Answer, Reply
from visionllm_sdk.skills import talk
from visionllm_sdk.skills.adapting import paced
from visionllm_sdk.skills.arguments import (
    Images,
    Many,
    as_list,
    check_message,
    each_phrase,
    is_many,
    load_images,
)
from visionllm_sdk.skills.group import SkillGroup
from visionllm_sdk.skills.history import Conversation, History, conversation
from visionllm_sdk.skills.marking import mark
from visionllm_sdk.skills.regions import Regions, each_region_list
from visionllm_sdk.skills.settings import ChatSettings, talk_settings
from visionllm_sdk.skills.talk import TalkEvent

S = TypeVar("S", bound=ImageSource)
_UNLIKE = frozenset(("options", "cancel", "regions"))
"""Settings that belong to one message, so that it shares no batch."""
_KINDS: Final[Mapping[str, tuple[type, str]]] = {
    "system": (str, "a string"),
    "force": (str, "one routing token or skill, such as 'detect'"),
    "options": (GenerationOptions, "GenerationOptions(...)"),
    "cancel": (CancelToken, "CancelToken()"),
}
"""What some settings have to be, and how that is said."""


class SpeakingSkills(SkillGroup):
    """Adds ``ask``, ``caption``, ``chat``, ``stream`` and their asynchronous twins."""

    @overload
    def ask(
        self,
        image: list[S] | tuple[S, ...],
        question: str | Sequence[str],
        regions: Any = None,
        *,
        adapter: AdapterChoice = None,
    ) -> list[Answer]: ...

    @overload
    def ask(
        self,
        image: ImageSource,
        question: str,
        regions: Regions | None = None,
        *,
        adapter: AdapterChoice = None,
    ) -> Answer: ...

    def ask(self, image: Any, question: Any, regions: Any = None, *, adapter: AdapterChoice = None) -> Any:
        """Answer a question about the image in a word or a phrase.

        Args:
            image: one image or a list.
            question: for a list of images also a list.
            regions: what the question speaks of; for a list of images also one such entry for each.
                ``<region>`` in the question stands for them one after the other, ``<region1>`` for the first;
                without these they stand in front of it and are called region1, region2.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Raises:
            ImageError: an image that cannot be used.
            InputError: an empty question, or slots in it that do not fit the regions.
            RegionError: a region that is empty or outside its image, or a mask of another size.
            LimitError: a question longer than the model can read.
        """
        images = load_images(image, self.rules)
        questions = each_phrase(question, images, "a question", check=check_message)
        marks = each_region_list(images, regions)
        answers = self._answer(images, [talk.short(text) for text in questions], adapter, marks)
        named = [
            one.model_copy(update={"question": text}) for one, text in zip(answers, questions, strict=True)
        ]
        return images.unwrap(named)

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
        self,
        image: ImageSource,
        question: str,
        regions: Regions | None = None,
        *,
        adapter: AdapterChoice = None,
    ) -> Answer: ...

    async def aask(self, image: Any, question: Any, regions: Any = None, **settings: Any) -> Any:
        """As :meth:`ask`, without blocking the event loop."""
        own = None if regions is None else as_list(regions)
        return await self._perform(self.ask, (image, question, own), settings)

    @overload
    def caption(self, image: list[S] | tuple[S, ...], *, adapter: AdapterChoice = None) -> list[Answer]: ...

    @overload
    def caption(self, image: ImageSource, *, adapter: AdapterChoice = None) -> Answer: ...

    def caption(self, image: Any, *, adapter: AdapterChoice = None) -> Any:
        """Say what is in the image.

        Args:
            image: one image or a list.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Raises:
            ImageError: an image that cannot be used.
        """
        images = load_images(image, self.rules)
        return images.unwrap(self._answer(images, [talk.CAPTION_REQUEST] * len(images.items), adapter))

    @overload
    async def acaption(
        self, image: list[S] | tuple[S, ...], *, adapter: AdapterChoice = None
    ) -> list[Answer]: ...

    @overload
    async def acaption(self, image: ImageSource, *, adapter: AdapterChoice = None) -> Answer: ...

    async def acaption(self, image: Any, **settings: Any) -> Any:
        """As :meth:`caption`, without blocking the event loop."""
        return await self._perform(self.caption, (image,), settings)

    def _answer(
        self,
        images: Many[Any],
        texts: Sequence[str],
        adapter: AdapterChoice,
        marks: Sequence[Any] | None = None,
    ) -> list[Answer]:
        talks = [
            mark(Conversation(text=text, images=(image,), past=(), new_images=1), own)
            for image, text, own in zip(images.items, texts, marks or [None] * len(texts), strict=True)
        ]
        settings = talk_settings(self.engine, {})
        chosen = each_adapter(adapter, len(talks), single=images.single)
        return by_adapter(self.engine, chosen, talks, lambda part: talk.answer(self.engine, part, settings))

    @overload
    def chat(
        self, text: str, images: Images = (), history: History = (), **settings: Unpack[ChatSettings]
    ) -> Reply: ...

    @overload
    def chat(
        self,
        text: list[str] | tuple[str, ...],
        images: Sequence[Images] = (),
        history: Sequence[History] = (),
        **settings: Unpack[ChatSettings],
    ) -> list[Reply]: ...

    def chat(self, text: Any, images: Any = (), history: Any = (), **settings: Unpack[ChatSettings]) -> Any:
        """Say something; the model decides whether a skill is needed, and the reply holds what it found.

        Args:
            text: the message, or a list of messages of separate conversations.
            images: images of the message; for a list of messages one entry for each.
            history: earlier turns, oldest first; for a list of messages one history for each. An image that
                an earlier reply has seen may be given again: it stays where it was.
            settings: see :class:`~visionllm_sdk.skills.settings.ChatSettings`.

        Returns:
            The reply, with its routed calls and their typed results in the order of the text.

        Raises:
            ImageError: an image that cannot be used.
            InputError: an empty message, an unknown token, a setting of the wrong kind, or a request to look
                where there is no image.
            LimitError: more text and images than the model can read.
        """
        _check_kinds(settings)
        chosen = talk_settings(self.engine, settings)
        if not is_many(text):
            message = mark(conversation(text, images, history, self.rules), settings.get("regions"))
            with self.engine.using(_one_adapter(settings)):
                return talk.chat(self.engine, [message], chosen)[0]
        columns = (text, _beside(images, text, "images"), _beside(history, text, "history"))
        regions = _beside(settings.get("regions") or (), text, "regions")
        talks = [
            mark(conversation(said, shown, past, self.rules), own)
            for said, shown, past, own in zip(*columns, regions, strict=True)
        ]
        adapters = each_adapter(settings.get("adapter"), len(talks), single=False)
        return by_adapter(self.engine, adapters, talks, lambda part: talk.chat(self.engine, part, chosen))

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
        """As :meth:`chat`, without blocking the event loop."""
        _check_kinds(settings)  # here already: messages that wait together are told apart by their settings
        alone = is_many(text) or bool(_UNLIKE & settings.keys())
        return await self._perform(self.chat, (text, images, history), settings, alone=alone)

    def stream(
        self, text: str, images: Images = (), history: History = (), **settings: Unpack[ChatSettings]
    ) -> Iterator[TalkEvent]:
        """As :meth:`chat` for one message, but yields text, calls and the reply as they come about.

        Closing the iterator stops the model. Arguments and errors are those of :meth:`chat`.
        """
        _check_kinds(settings)
        message = mark(conversation(text, images, history, self.rules), settings.get("regions"))
        events = talk.stream(self.engine, message, talk_settings(self.engine, settings))
        return paced(self.engine, _one_adapter(settings), events)

    async def astream(
        self, text: str, images: Images = (), history: History = (), **settings: Unpack[ChatSettings]
    ) -> AsyncIterator[TalkEvent]:
        """As :meth:`stream`, without blocking the event loop."""
        # Images are loaded and checked there, too: files and URLs take their time.
        events = await asyncio.to_thread(self.stream, text, images, history, **settings)
        while (event := await asyncio.to_thread(next, events, None)) is not None:
            yield event


def _check_kinds(settings: ChatSettings) -> None:
    """Refuse settings of a wrong kind; what they say is checked by `talk_settings`.

    Raises:
        InputError: such a setting.
    """
    for name, (kind, limit) in _KINDS.items():
        value = settings.get(name)
        if value is not None and not isinstance(value, kind):
            raise _wrong_kind(name, value, limit)
    forbid: Any = settings.get("forbid")
    if forbid is not None and not (
        isinstance(forbid, Collection) and all(isinstance(name, str) for name in forbid)
    ):
        raise _wrong_kind("forbid", forbid, "a routing token or skill, or a list of these")


def _wrong_kind(name: str, value: object, limit: str) -> InputError:
    return InputError(
        f"the setting {name} is of the wrong kind",
        value=value,
        limit=limit,
        remedy=f"Pass what is allowed, or leave {name} out.",
    )


def _one_adapter(settings: ChatSettings) -> str | None:
    """The adapter of a single message."""
    return each_adapter(settings.get("adapter"), 1, single=True)[0]


def _beside(values: Any, texts: Sequence[str], word: str) -> Sequence[Any]:
    """One entry for every message; nothing stands for nothing everywhere."""
    if not is_many(values) or (values and len(values) != len(texts)):
        raise InputError(
            f"a list of messages needs {word} for every one of them",
            value=len(values) if is_many(values) else values,
            limit=len(texts),
            remedy=f"Pass a list with one entry for each message, or no {word}.",
        )
    return values or [()] * len(texts)
