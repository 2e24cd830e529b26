"""`VisionLLM`: the model with one typed method per skill."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self, TypeVar, Unpack, overload

from visionllm_sdk.adapters import AdapterChoice, by_adapter, each_adapter
from visionllm_sdk.errors import InputError
from visionllm_sdk.images import ImageSource
from visionllm_sdk.results import Answer, Count, Detections, Grounding, Reply, SemanticMap
from visionllm_sdk.skills.adapting import AdapterSkills, paced
from visionllm_sdk.skills.agents import ForAgents
from visionllm_sdk.skills.arguments import (
    ImageRules,
    Images,
    Labels,
    Many,
    check_labels,
    check_message,
    check_phrase,
    check_threshold,
    each,
    is_many,
    load_images,
    per_image,
)
from visionllm_sdk.skills.converting import readable_folder
from visionllm_sdk.skills.drawing import DrawingSkills
from visionllm_sdk.skills.engine import SKILL_TOKENS, Engine
from visionllm_sdk.skills.history import Conversation, History, conversation
from visionllm_sdk.skills.loading import EMBEDDED, LoadingSettings, checkpoint_folder, placement
from visionllm_sdk.skills.marking import mark
from visionllm_sdk.skills.perception import Perception, as_count, perceive
from visionllm_sdk.skills.posing import PoseSkills
from visionllm_sdk.skills.regions import Regions, RegionSkills, each_region_list
from visionllm_sdk.skills.talk import (
    CAPTION_REQUEST,
    ChatSettings,
    TalkEvent,
    answer,
    chat,
    short,
    stream,
    talk_settings,
)

if TYPE_CHECKING:
    import torch

    from visionllm_sdk.model.assembly import Model
    from visionllm_sdk.model.memory import MemoryReport

S = TypeVar("S", bound=ImageSource)
ResultT = TypeVar("ResultT")


class VisionLLM(PoseSkills, RegionSkills, DrawingSkills, AdapterSkills, ForAgents):
    """An image and a sentence in, typed results out.

    Wherever a method takes an image it also takes a list of images and then returns a list: all go through
    the model together. Labels, expressions and questions may then be one for all images, or a list with one
    for each. Every method has an asynchronous twin with an ``a`` in front of its name.

    Args:
        model: a loaded checkpoint; see :meth:`from_pretrained`.
        rules: which images are accepted.
        name: of the checkpoint, for logs and metadata.
    """

    def __init__(self, model: Model, *, rules: ImageRules | None = None, name: str = "unnamed") -> None:
        super().__init__()
        self.engine = Engine(model, name=name)
        self.rules = replace(rules or ImageRules(), handles=self.engine.pictures.handles)
        self.name = name

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | os.PathLike[str] | None = None,
        *,
        device: str | torch.device | None = None,
        dtype: str | torch.dtype | None = None,
        tools: Sequence[str] | None = None,
        rules: ImageRules | None = None,
        **settings: Unpack[LoadingSettings],
    ) -> Self:
        """Load a checkpoint. Pickled weights are converted to safetensors once, in the local cache.

        Args:
            name_or_path: folder, or hub name if there is no such folder; None is the embedded model.
            device: ``"cpu"`` if not given.
            dtype: number format, such as ``"float32"``; None takes float32 on the CPU, bfloat16 elsewhere.
            tools: names of the routed tools to load; None takes all that the checkpoint has.
            rules: which images are accepted.
            settings: see :class:`~visionllm_sdk.skills.loading.LoadingSettings`.

        Raises:
            CheckpointError: no such checkpoint, or one that is incomplete, damaged or does not fit.
            ConfigError: its config.json cannot be used, or no such device or number format.
            ToolError: a tool that is unknown or that the checkpoint does not have.
            MissingExtraError: ``quantization`` without its library.
        """
        from visionllm_sdk.model.assembly import load_model
        from visionllm_sdk.tool import discover_tools

        place = placement(device, dtype, settings)
        model = load_model(
            readable_folder(checkpoint_folder(name_or_path)),
            registry=discover_tools(),
            tools=tools,
            placement=place,
            lazy=True,
            check=settings.get("check", True),
        )
        return cls(model, rules=rules, name=os.fspath(name_or_path or EMBEDDED))

    def memory(self) -> MemoryReport:
        """What each part takes in memory, and where; ``print`` shows a table."""
        return self.engine.model.memory()

    @property
    def skills(self) -> tuple[str, ...]:
        """Names of the typed methods that this checkpoint carries out, beside those of words alone."""
        routed = [name for name, token in SKILL_TOKENS.items() if token in self.engine.routing_tokens]
        return (*routed, *(self.region_skills if self.engine.model.core.region_encoder is not None else ()))

    # -- forced routing: one forward pass, no decoding -----------------------------------------------------

    @overload
    def detect(
        self,
        image: list[S] | tuple[S, ...],
        labels: Any,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> list[Detections]: ...

    @overload
    def detect(
        self,
        image: ImageSource,
        labels: Labels,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Detections: ...

    def detect(
        self,
        image: Any,
        labels: Any,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Any:
        """Find all objects of the named kinds.

        Args:
            image: one image or a list.
            labels: what to look for; for a list of images also a list of lists. Repeated labels count once.
            threshold: lowest score, 0 to 1; None takes the checkpoint's own.
            masks: whether detections carry masks.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Returns:
            Boxes (pixels of the given image, x1 y1 x2 y2) and masks, best first.

        Raises:
            ImageError: an image that cannot be used.
            InputError: no label, or a threshold out of range.
        """
        images = load_images(image, self.rules)
        wanted = _each_label_list(labels, images)
        options = {"threshold": check_threshold(threshold), "masks": masks}
        return images.unwrap(self._perceive("detect", images, wanted, Detections, adapter, **options))

    @overload
    def segment(
        self, image: list[S] | tuple[S, ...], labels: Any, *, adapter: AdapterChoice = None
    ) -> list[SemanticMap]: ...

    @overload
    def segment(
        self, image: ImageSource, labels: Labels, *, adapter: AdapterChoice = None
    ) -> SemanticMap: ...

    def segment(self, image: Any, labels: Any, *, adapter: AdapterChoice = None) -> Any:
        """Give every pixel one of the named categories, or none.

        Args:
            image: one image or a list.
            labels: the categories; for a list of images also a list of lists.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Raises:
            ImageError: an image that cannot be used.
            InputError: no label.
        """
        images = load_images(image, self.rules)
        wanted = _each_label_list(labels, images)
        return images.unwrap(self._perceive("segment", images, wanted, SemanticMap, adapter))

    @overload
    def ground(
        self,
        image: list[S] | tuple[S, ...],
        expression: str | Sequence[str],
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> list[Grounding]: ...

    @overload
    def ground(
        self,
        image: ImageSource,
        expression: str,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Grounding: ...

    def ground(
        self,
        image: Any,
        expression: Any,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Any:
        """Find what a referring expression points at, such as "the star left of the ring".

        Args:
            image: one image or a list.
            expression: what is meant; for a list of images also a list.
            threshold: lowest score, 0 to 1; None takes the checkpoint's own. The best candidate is always
                returned.
            masks: whether detections carry masks.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Returns:
            Detections labelled with the expression, best first.

        Raises:
            ImageError: an image that cannot be used.
            InputError: an empty expression, or a threshold out of range.
        """
        images = load_images(image, self.rules)
        wanted = [(phrase,) for phrase in _each_phrase(expression, images, "an expression")]
        options = {"threshold": check_threshold(threshold), "masks": masks}
        return images.unwrap(self._perceive("ground", images, wanted, Grounding, adapter, **options))

    @overload
    def count(
        self,
        image: list[S] | tuple[S, ...],
        label: str | Sequence[str],
        *,
        threshold: float | None = None,
        adapter: AdapterChoice = None,
    ) -> list[Count]: ...

    @overload
    def count(
        self,
        image: ImageSource,
        label: str,
        *,
        threshold: float | None = None,
        adapter: AdapterChoice = None,
    ) -> Count: ...

    def count(
        self, image: Any, label: Any, *, threshold: float | None = None, adapter: AdapterChoice = None
    ) -> Any:
        """Count the objects of one kind, by detecting them.

        Args:
            image: one image or a list.
            label: what to count; for a list of images also a list.
            threshold: lowest score, 0 to 1; None takes the checkpoint's own.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Raises:
            ImageError: an image that cannot be used.
            InputError: an empty label, or a threshold out of range.
        """
        images = load_images(image, self.rules)
        wanted = [(phrase,) for phrase in _each_phrase(label, images, "a label")]
        options = {"threshold": check_threshold(threshold), "masks": False}
        found = self._perceive("count", images, wanted, Detections, adapter, **options)
        return images.unwrap([as_count(one, name) for one, (name,) in zip(found, wanted, strict=True)])

    def _perceive(
        self,
        skill: str,
        images: Many[Any],
        labels: Sequence[tuple[str, ...]],
        kind: type[ResultT],
        adapter: AdapterChoice,
        **options: Any,
    ) -> list[ResultT]:
        items = [
            Perception(image=image, token=SKILL_TOKENS[skill], labels=wanted, options=options)
            for image, wanted in zip(images.items, labels, strict=True)
        ]
        chosen = each_adapter(adapter, len(items), single=images.single)
        return by_adapter(self.engine, chosen, items, lambda part: perceive(self.engine, part, kind))

    # -- words alone ---------------------------------------------------------------------------------------

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
        questions = _each_phrase(question, images, "a question", check=check_message)
        marks = each_region_list(images, regions)
        answers = self._answer(images, [short(text) for text in questions], adapter, marks)
        named = [
            one.model_copy(update={"question": text}) for one, text in zip(answers, questions, strict=True)
        ]
        return images.unwrap(named)

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
        return images.unwrap(self._answer(images, [CAPTION_REQUEST] * len(images.items), adapter))

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
        return by_adapter(self.engine, chosen, talks, lambda part: answer(self.engine, part, settings))

    # -- free routing --------------------------------------------------------------------------------------

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
            history: earlier turns, oldest first; for a list of messages one history for each.
            settings: see :class:`~visionllm_sdk.skills.talk.ChatSettings`.

        Returns:
            The reply, with its routed calls and their typed results in the order of the text.

        Raises:
            ImageError: an image that cannot be used.
            InputError: an empty message, an unknown token, or a request to look where there is no image.
            LimitError: more text and images than the model can read.
        """
        chosen = talk_settings(self.engine, settings)
        if not is_many(text):
            talk = mark(conversation(text, images, history, self.rules), settings.get("regions"))
            with self.engine.using(_one_adapter(settings)):
                return chat(self.engine, [talk], chosen)[0]
        columns = (text, _beside(images, text, "images"), _beside(history, text, "history"))
        regions = _beside(settings.get("regions") or (), text, "regions")
        talks = [
            mark(conversation(said, shown, past, self.rules), own)
            for said, shown, past, own in zip(*columns, regions, strict=True)
        ]
        adapters = each_adapter(settings.get("adapter"), len(talks), single=False)
        return by_adapter(self.engine, adapters, talks, lambda part: chat(self.engine, part, chosen))

    def stream(
        self, text: str, images: Images = (), history: History = (), **settings: Unpack[ChatSettings]
    ) -> Iterator[TalkEvent]:
        """As :meth:`chat` for one message, but yields text, calls and the reply as they come about.

        Closing the iterator stops the model. Arguments and errors are those of :meth:`chat`.
        """
        talk = mark(conversation(text, images, history, self.rules), settings.get("regions"))
        events = stream(self.engine, talk, talk_settings(self.engine, settings))
        return paced(self.engine, _one_adapter(settings), events)


def _one_adapter(settings: ChatSettings) -> str | None:
    """The adapter of a single message."""
    return each_adapter(settings.get("adapter"), 1, single=True)[0]


def _each_label_list(labels: Any, images: Many[Any]) -> list[tuple[str, ...]]:
    """The labels of every image."""
    given = per_image(labels, len(images.items), single=images.single, nested=True, word="label lists")
    return _checked(given, check_labels)


def _each_phrase(
    phrase: Any, images: Many[Any], word: str, *, check: Callable[[object, str], str] = check_phrase
) -> list[str]:
    """The expression, label or question of every image."""
    plural = f"{word.split()[-1]}s"
    given = per_image(phrase, len(images.items), single=images.single, nested=False, word=plural)
    return _checked(given, lambda value: check(value, word))


def _checked(values: list[Any], check: Callable[[Any], ResultT]) -> list[ResultT]:
    """Check what every image is asked; only where the values differ does an error name the position."""
    if values and all(value is values[0] for value in values):
        return [check(values[0])] * len(values)
    return each(values, check, "entry")


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
