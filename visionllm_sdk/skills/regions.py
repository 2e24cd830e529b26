"""The typed methods about region prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, TypeVar, overload

from visionllm_sdk.adapters import AdapterChoice
from visionllm_sdk.errors import InputError
from visionllm_sdk.images import ImageSource, LoadedImage
from visionllm_sdk.regions import Region, check_region, check_regions
from visionllm_sdk.results import Detections, RegionDescription, RegionLabel
from visionllm_sdk.skills import recognition, regional
from visionllm_sdk.skills.arguments import (
    Labels,
    Many,
    as_list,
    check_threshold,
    each,
    each_label_list,
    is_many,
    load_images,
    per_image,
)
from visionllm_sdk.skills.group import SkillGroup
from visionllm_sdk.skills.regional import Marked

S = TypeVar("S", bound=ImageSource)
Regions = Region | Sequence[Region]
"""One region prompt, or several."""


class RegionSkills(SkillGroup):
    """Adds what can be asked about regions of an image, and the asynchronous twins.

    A region is a `Box`, `Point`, `Scribble` or `Mask` in pixels of the given image. All regions of a call go
    through the model together. For a list of images, `regions` may be one list for all or a list of lists.
    """

    region_skills: ClassVar[tuple[str, ...]] = ("describe", "classify", "segment_regions", "segment_like")

    @overload
    def describe(
        self, image: list[S] | tuple[S, ...], regions: Any, *, adapter: AdapterChoice = None
    ) -> list[list[RegionDescription]]: ...

    @overload
    def describe(
        self, image: ImageSource, regions: Regions, *, adapter: AdapterChoice = None
    ) -> list[RegionDescription]: ...

    def describe(self, image: Any, regions: Any, *, adapter: AdapterChoice = None) -> Any:
        """Say what each region shows.

        Args:
            image: one image or a list.
            regions: one region prompt or several; for a list of images also a list of lists.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Returns:
            One description for each region, in order; for a list of images a list of such lists.

        Raises:
            ImageError: an image that cannot be used.
            RegionError: no region, one that is empty or outside its image, or a mask of another size.
            InputError: the checkpoint has no region encoder.
        """
        images = load_images(image, self.rules)
        marked = _marked(images, regions)
        return images.unwrap(
            self._each(images, marked, lambda part: regional.describe(self.engine, part), adapter)
        )

    @overload
    def classify(
        self, image: list[S] | tuple[S, ...], regions: Any, labels: Any, *, adapter: AdapterChoice = None
    ) -> list[list[RegionLabel]]: ...

    @overload
    def classify(
        self, image: ImageSource, regions: Regions, labels: Labels, *, adapter: AdapterChoice = None
    ) -> list[RegionLabel]: ...

    def classify(self, image: Any, regions: Any, labels: Any, *, adapter: AdapterChoice = None) -> Any:
        """Choose one of the offered labels for each region.

        Args:
            image: one image or a list.
            regions: one region prompt or several; for a list of images also a list of lists.
            labels: what to choose from; for a list of images also a list of lists.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Returns:
            The most probable label for each region, in order, with its share of the probability of all
            offered labels; for a list of images a list of such lists.

        Raises:
            ImageError: an image that cannot be used.
            RegionError: no region, one that is empty or outside its image, or a mask of another size.
            InputError: no label, or a checkpoint without region encoder.
        """
        images = load_images(image, self.rules)
        marked = _marked(images, regions)
        items = list(zip(marked, each_label_list(labels, images), strict=True))

        def run(part: Sequence[tuple[Marked, tuple[str, ...]]]) -> list[list[RegionLabel]]:
            return recognition.classify(self.engine, [one for one, _ in part], [own for _, own in part])

        return images.unwrap(self._each(images, items, run, adapter))

    @overload
    def segment_regions(
        self, image: list[S] | tuple[S, ...], regions: Any, *, adapter: AdapterChoice = None
    ) -> list[Detections]: ...

    @overload
    def segment_regions(
        self, image: ImageSource, regions: Regions, *, adapter: AdapterChoice = None
    ) -> Detections: ...

    def segment_regions(self, image: Any, regions: Any, *, adapter: AdapterChoice = None) -> Any:
        """Find the exact outline of what each region marks.

        Args:
            image: one image or a list.
            regions: one region prompt or several; for a list of images also a list of lists.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Returns:
            One detection with a mask for each region, in order; its `region` is that region's position.

        Raises:
            ImageError: an image that cannot be used.
            RegionError: no region, one that is empty or outside its image, or a mask of another size.
            InputError: the checkpoint has no region encoder.
            ToolError: the checkpoint has no detector.
        """
        images = load_images(image, self.rules)
        marked = _marked(images, regions)
        return images.unwrap(
            self._each(images, marked, lambda part: regional.segment(self.engine, part), adapter)
        )

    @overload
    def segment_like(
        self,
        example_image: Any,
        example_region: Any,
        image: list[S] | tuple[S, ...],
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> list[Detections]: ...

    @overload
    def segment_like(
        self,
        example_image: ImageSource,
        example_region: Region,
        image: ImageSource,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Detections: ...

    def segment_like(
        self,
        example_image: Any,
        example_region: Any,
        image: Any,
        *,
        threshold: float | None = None,
        masks: bool = True,
        adapter: AdapterChoice = None,
    ) -> Any:
        """Find all things of the kind that is marked in another image.

        Args:
            example_image: shows an example; for a list of images also a list.
            example_region: marks it; for a list of images also a list.
            image: where to look: one image or a list.
            threshold: lowest score, 0 to 1; None takes the checkpoint's own.
            masks: whether detections carry masks.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Returns:
            Detections in the pixels of `image`, best first.

        Raises:
            ImageError: an image that cannot be used.
            RegionError: the region is empty or outside the example, or a mask of another size.
            InputError: a threshold out of range, or a checkpoint without region encoder.
            ToolError: the checkpoint has no detector.
        """
        images = load_images(image, self.rules)
        count = len(images.items)
        options = {"threshold": check_threshold(threshold), "masks": masks}
        sources = per_image(example_image, count, single=images.single, nested=False, word="example images")
        given = per_image(example_region, count, single=images.single, nested=False, word="example regions")
        loaded = (
            [self.rules.load(sources[0])] * count
            if _same(sources)
            else each(sources, self.rules.load, "example image")
        )
        examples = [
            Marked(one, (check_region(region, _size(one)),))
            for one, region in zip(loaded, given, strict=True)
        ]
        items = list(zip(examples, images.items, strict=True))

        def run(part: Sequence[tuple[Marked, LoadedImage]]) -> list[Detections]:
            shown, searched = [one for one, _ in part], [image for _, image in part]
            return regional.segment_like(self.engine, shown, searched, options)

        return images.unwrap(self._each(images, items, run, adapter))

    # -- asynchronous --------------------------------------------------------------------------------------

    @overload
    async def adescribe(
        self, image: list[S] | tuple[S, ...], regions: Any, *, adapter: AdapterChoice = None
    ) -> list[list[RegionDescription]]: ...

    @overload
    async def adescribe(
        self, image: ImageSource, regions: Regions, *, adapter: AdapterChoice = None
    ) -> list[RegionDescription]: ...

    async def adescribe(self, image: Any, regions: Any, *, adapter: AdapterChoice = None) -> Any:
        """As ``describe``, without blocking the event loop."""
        return await self._perform(self.describe, (image, as_list(regions)), {"adapter": adapter})

    @overload
    async def aclassify(
        self, image: list[S] | tuple[S, ...], regions: Any, labels: Any, *, adapter: AdapterChoice = None
    ) -> list[list[RegionLabel]]: ...

    @overload
    async def aclassify(
        self, image: ImageSource, regions: Regions, labels: Labels, *, adapter: AdapterChoice = None
    ) -> list[RegionLabel]: ...

    async def aclassify(self, image: Any, regions: Any, labels: Any, *, adapter: AdapterChoice = None) -> Any:
        """As ``classify``, without blocking the event loop."""
        return await self._perform(
            self.classify, (image, as_list(regions), as_list(labels)), {"adapter": adapter}
        )

    @overload
    async def asegment_regions(
        self, image: list[S] | tuple[S, ...], regions: Any, *, adapter: AdapterChoice = None
    ) -> list[Detections]: ...

    @overload
    async def asegment_regions(
        self, image: ImageSource, regions: Regions, *, adapter: AdapterChoice = None
    ) -> Detections: ...

    async def asegment_regions(self, image: Any, regions: Any, *, adapter: AdapterChoice = None) -> Any:
        """As ``segment_regions``, without blocking the event loop."""
        return await self._perform(self.segment_regions, (image, as_list(regions)), {"adapter": adapter})

    @overload
    async def asegment_like(
        self, example_image: Any, example_region: Any, image: list[S] | tuple[S, ...], **settings: Any
    ) -> list[Detections]: ...

    @overload
    async def asegment_like(
        self, example_image: ImageSource, example_region: Region, image: ImageSource, **settings: Any
    ) -> Detections: ...

    async def asegment_like(
        self, example_image: Any, example_region: Any, image: Any, **settings: Any
    ) -> Any:
        """As ``segment_like``, without blocking the event loop."""
        arguments = (example_image, example_region, image)
        return await self._perform(self.segment_like, arguments, settings, alone=is_many(image))


def _marked(images: Many[LoadedImage], regions: Any) -> list[Marked]:
    """Every image with its regions."""
    given = per_image(regions, len(images.items), single=images.single, nested=True, word="region lists")
    return [
        Marked(image, _checked(image, own, None if images.single else number))
        for number, (image, own) in enumerate(zip(images.items, given, strict=True))
    ]


def each_region_list(images: Many[LoadedImage], regions: Any) -> list[tuple[Region, ...]]:
    """The regions of every image, which may be none.

    Args:
        images: of the call.
        regions: None for none, one prompt or several for all images, or one such entry for each.

    Raises:
        RegionError: a region that does not fit its image.
        InputError: a list of another length than that of the images.
    """
    several = not images.single and is_many(regions) and any(own is None or is_many(own) for own in regions)
    given = list(regions) if several else [regions] * len(images.items)
    if len(given) != len(images.items):
        raise InputError(
            "a list of region lists needs one entry for every image",
            value=len(given),
            limit=len(images.items),
            remedy="Pass one entry for each image; None where there is no region.",
        )
    return [
        _checked(image, own, None if images.single else number) if _some(own) else ()
        for number, (image, own) in enumerate(zip(images.items, given, strict=True))
    ]


def _some(regions: Any) -> bool:
    """Whether there is any region; an empty list is none."""
    return regions is not None and not (is_many(regions) and not regions)


def _checked(image: LoadedImage, regions: Any, number: int | None) -> tuple[Region, ...]:
    """The regions of one image; an error names the image where there are several."""
    try:
        return check_regions(regions, _size(image))
    except InputError as error:
        if number is None:
            raise
        raise error.at(f"image {number}") from error


def _size(image: LoadedImage) -> tuple[int, int]:
    return image.width, image.height


def _same(values: Sequence[Any]) -> bool:
    return bool(values) and all(value is values[0] for value in values)
