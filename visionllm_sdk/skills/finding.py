"""Finding things whose names are known: boxes, masks, categories and counts, by forced routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar, Unpack, overload

from visionllm_sdk.adapters import AdapterChoice
from visionllm_sdk.images import ImageSource, LoadedImage
from visionllm_sdk.results import Count, Detections, Grounding, SemanticMap
from visionllm_sdk.skills.arguments import (
    FindSettings,
    Labels,
    Many,
    ScoreSettings,
    check_threshold,
    each_label_list,
    each_phrase,
    load_images,
)
from visionllm_sdk.skills.engine import SKILL_TOKENS
from visionllm_sdk.skills.group import SkillGroup
from visionllm_sdk.skills.perception import Perception, as_count

S = TypeVar("S", bound=ImageSource)


class FindingSkills(SkillGroup):
    """Adds ``detect``, ``segment``, ``ground``, ``count`` and their asynchronous twins.

    The labels are known, so one forward pass of the language model yields the super-links; nothing is
    generated token by token.
    """

    @overload
    def detect(
        self, image: list[S] | tuple[S, ...], labels: Any, **settings: Unpack[FindSettings]
    ) -> list[Detections]: ...

    @overload
    def detect(self, image: ImageSource, labels: Labels, **settings: Unpack[FindSettings]) -> Detections: ...

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
        wanted = each_label_list(labels, images)
        wishes = _wishes("detect", images, wanted, threshold=check_threshold(threshold), masks=masks)
        return images.unwrap(self._perceive(images, wishes, Detections, adapter))

    @overload
    async def adetect(
        self, image: list[S] | tuple[S, ...], labels: Any, **settings: Unpack[FindSettings]
    ) -> list[Detections]: ...

    @overload
    async def adetect(
        self, image: ImageSource, labels: Labels, **settings: Unpack[FindSettings]
    ) -> Detections: ...

    async def adetect(self, image: Any, labels: Any, **settings: Any) -> Any:
        """As :meth:`detect`, without blocking the event loop."""
        own = [labels] if isinstance(labels, str) else labels
        return await self._perform(self.detect, (image, own), settings)

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
        wanted = each_label_list(labels, images)
        return images.unwrap(self._perceive(images, _wishes("segment", images, wanted), SemanticMap, adapter))

    @overload
    async def asegment(
        self, image: list[S] | tuple[S, ...], labels: Any, *, adapter: AdapterChoice = None
    ) -> list[SemanticMap]: ...

    @overload
    async def asegment(
        self, image: ImageSource, labels: Labels, *, adapter: AdapterChoice = None
    ) -> SemanticMap: ...

    async def asegment(self, image: Any, labels: Any, **settings: Any) -> Any:
        """As :meth:`segment`, without blocking the event loop."""
        own = [labels] if isinstance(labels, str) else labels
        return await self._perform(self.segment, (image, own), settings)

    @overload
    def ground(
        self,
        image: list[S] | tuple[S, ...],
        expression: str | Sequence[str],
        **settings: Unpack[FindSettings],
    ) -> list[Grounding]: ...

    @overload
    def ground(self, image: ImageSource, expression: str, **settings: Unpack[FindSettings]) -> Grounding: ...

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
        wanted = [(phrase,) for phrase in each_phrase(expression, images, "an expression")]
        wishes = _wishes("ground", images, wanted, threshold=check_threshold(threshold), masks=masks)
        return images.unwrap(self._perceive(images, wishes, Grounding, adapter))

    @overload
    async def aground(
        self,
        image: list[S] | tuple[S, ...],
        expression: str | Sequence[str],
        **settings: Unpack[FindSettings],
    ) -> list[Grounding]: ...

    @overload
    async def aground(
        self, image: ImageSource, expression: str, **settings: Unpack[FindSettings]
    ) -> Grounding: ...

    async def aground(self, image: Any, expression: Any, **settings: Any) -> Any:
        """As :meth:`ground`, without blocking the event loop."""
        return await self._perform(self.ground, (image, expression), settings)

    @overload
    def count(
        self, image: list[S] | tuple[S, ...], label: str | Sequence[str], **settings: Unpack[ScoreSettings]
    ) -> list[Count]: ...

    @overload
    def count(self, image: ImageSource, label: str, **settings: Unpack[ScoreSettings]) -> Count: ...

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
        wanted = [(phrase,) for phrase in each_phrase(label, images, "a label")]
        wishes = _wishes("count", images, wanted, threshold=check_threshold(threshold), masks=False)
        found = self._perceive(images, wishes, Detections, adapter)
        return images.unwrap([as_count(one, name) for one, (name,) in zip(found, wanted, strict=True)])

    @overload
    async def acount(
        self, image: list[S] | tuple[S, ...], label: str | Sequence[str], **settings: Unpack[ScoreSettings]
    ) -> list[Count]: ...

    @overload
    async def acount(self, image: ImageSource, label: str, **settings: Unpack[ScoreSettings]) -> Count: ...

    async def acount(self, image: Any, label: Any, **settings: Any) -> Any:
        """As :meth:`count`, without blocking the event loop."""
        return await self._perform(self.count, (image, label), settings)


def _wishes(
    skill: str, images: Many[LoadedImage], labels: Sequence[tuple[str, ...]], **options: Any
) -> list[Perception]:
    """What is asked of every image."""
    return [
        Perception(image=image, token=SKILL_TOKENS[skill], labels=wanted, options=options, number=number)
        for number, (image, wanted) in enumerate(zip(images.items, labels, strict=True))
    ]
