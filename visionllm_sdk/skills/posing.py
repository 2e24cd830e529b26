"""Poses: objects of named kinds with named keypoints, by forced routing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, TypeVar, Unpack, overload

from visionllm_sdk.adapters import AdapterChoice
from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.images import ImageSource, LoadedImage
from visionllm_sdk.keypoints import KEYPOINT_SETS, keypoint_set
from visionllm_sdk.results import Poses
from visionllm_sdk.skills.arguments import (
    Labels,
    Many,
    ScoreSettings,
    check_each,
    check_labels,
    check_phrase,
    check_threshold,
    each,
    is_many,
    load_images,
    per_image,
)
from visionllm_sdk.skills.engine import SKILL_TOKENS
from visionllm_sdk.skills.group import SkillGroup
from visionllm_sdk.skills.perception import Perception

S = TypeVar("S", bound=ImageSource)

MAX_KEYPOINTS: Final = 100
"""Names in one call; more than any set has."""


class PoseSkills(SkillGroup):
    """Adds ``pose`` and ``apose``."""

    @overload
    def pose(
        self,
        image: list[S] | tuple[S, ...],
        label: Any,
        keypoints: Any = "coco",
        **settings: Unpack[ScoreSettings],
    ) -> list[Poses]: ...

    @overload
    def pose(
        self,
        image: ImageSource,
        label: Labels,
        keypoints: str | Sequence[str] = "coco",
        **settings: Unpack[ScoreSettings],
    ) -> Poses: ...

    def pose(
        self,
        image: Any,
        label: Any,
        keypoints: Any = "coco",
        *,
        threshold: float | None = None,
        adapter: AdapterChoice = None,
    ) -> Any:
        """Find all objects of the named kinds with their keypoints.

        Args:
            image: one image or a list.
            label: whose keypoints, such as "person", or several kinds; for a list of images also a list of
                lists.
            keypoints: a set's name ("coco", "ap10k", "hand", "face68") or keypoint names; for a list of
                images also one such entry for each.
            threshold: lowest score of a pose, 0 to 1; None takes the checkpoint's own.
            adapter: name of a loaded adapter, or one for each image; None is the model as it is.

        Returns:
            Poses with boxes and keypoints in pixels of the given image, best first. A keypoint that is
            covered, or that such an object does not have, is not `visible`.

        Raises:
            ImageError: an image that cannot be used.
            InputError: no label, an unknown keypoint set, no keypoint name, or a threshold out of range.
            LimitError: more keypoints than one call takes.
            ToolError: the checkpoint has no pose estimator.
        """
        images = load_images(image, self.rules)
        items = _requests(images, label, keypoints, check_threshold(threshold))
        return images.unwrap(self._perceive(images, items, Poses, adapter))

    @overload
    async def apose(
        self,
        image: list[S] | tuple[S, ...],
        label: Any,
        keypoints: Any = "coco",
        **settings: Unpack[ScoreSettings],
    ) -> list[Poses]: ...

    @overload
    async def apose(
        self,
        image: ImageSource,
        label: Labels,
        keypoints: str | Sequence[str] = "coco",
        **settings: Unpack[ScoreSettings],
    ) -> Poses: ...

    async def apose(self, image: Any, label: Any, keypoints: Any = "coco", **settings: Any) -> Any:
        """As :meth:`pose`, without blocking the event loop."""
        own = [label] if isinstance(label, str) else label
        names = keypoints
        if not is_many(image):
            (alone,) = _keypoints_of(keypoints, 1, single=True)
            names = list(check_keypoints(alone))
        return await self._perform(self.pose, (image, own, names), settings)


def _requests(
    images: Many[LoadedImage], labels: Any, keypoints: Any, threshold: float | None
) -> list[Perception]:
    """What is asked of every image."""
    count = len(images.items)
    wanted = per_image(labels, count, single=images.single, nested=True, word="label lists")
    named = _keypoints_of(keypoints, count, single=images.single)
    return [
        Perception(
            image=image,
            token=SKILL_TOKENS["pose"],
            labels=names,
            before=((SKILL_TOKENS["detect"], classes),),
            options={"threshold": threshold},
            number=number,
        )
        for number, (image, classes, names) in enumerate(
            zip(
                images.items,
                check_each(wanted, check_labels),
                check_each(named, check_keypoints),
                strict=True,
            )
        )
    ]


def check_keypoints(keypoints: Any) -> tuple[str, ...]:
    """The keypoint names of a set's name, or of a list of names.

    Raises:
        InputError: an unknown set, no name, an empty one, or one given twice.
        LimitError: more names than one call takes, or one that is too long.
    """
    names = keypoint_set(keypoints).names
    if len(names) > MAX_KEYPOINTS:
        raise LimitError(
            "too many keypoints for one call",
            value=len(names),
            limit=MAX_KEYPOINTS,
            remedy="Ask for fewer, or in several calls.",
        )
    return tuple(each(names, lambda name: check_phrase(name, "a keypoint name"), "keypoint"))


def _keypoints_of(given: Any, count: int, *, single: bool) -> list[Any]:
    """The keypoints of each image; a list of set names as long as the list of images is one for each.

    Raises:
        InputError: such a list for one image, or one of another length.
    """
    sets: Sequence[str] = tuple(KEYPOINT_SETS)
    of_sets = is_many(given) and bool(given) and all(isinstance(v, str) and v in sets for v in given)
    if single and of_sets:
        raise InputError(
            "a list of keypoint sets goes with a list of images, and this is one image",
            value=given,
            limit="the name of a set, or a list of keypoint names",
            remedy=f"Pass {given[0]!r} by itself.",
        )
    return per_image(given, count, single=single, nested=not of_sets, word="keypoint lists")
