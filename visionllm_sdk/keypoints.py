"""Keypoint sets by name, skeletons, and how close two sets of keypoints are.

A set is an ordered list of keypoint names, as the language model reads and writes them. `coco` is a person's
body, `ap10k` a four-legged animal, `hand` and `face68` are what they say. Names may also be free words, of
any object. This module imports no torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from visionllm_sdk.errors import InputError

__all__ = [
    "AP10K",
    "COCO",
    "DEFAULT_SIGMA",
    "FACE68",
    "HAND",
    "KEYPOINT_SETS",
    "Bones",
    "KeypointSet",
    "keypoint_set",
    "keypoint_similarity",
    "same_name",
    "sigmas_of",
    "skeleton_of",
]

Bones = tuple[tuple[str, str], ...]
"""Pairs of keypoint names that a drawing connects."""

DEFAULT_SIGMA: Final = 0.05
"""For keypoints of which nobody has measured how precisely people place them: between eyes and elbows."""


@dataclass(frozen=True)
class KeypointSet:
    """Named keypoints of one kind of object.

    Attributes:
        names: in order.
        sigmas: spread of people's clicks on each keypoint relative to the object's size, as COCO defines it
            for the object keypoint similarity.
        skeleton: pairs of names that a drawing connects.

    Raises:
        InputError: not one sigma for each name.
    """

    names: tuple[str, ...]
    sigmas: tuple[float, ...]
    skeleton: Bones = ()

    def __post_init__(self) -> None:
        if len(self.names) != len(self.sigmas):
            raise InputError(
                "a keypoint set needs one sigma per name", value=len(self.sigmas), limit=len(self.names)
            )

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)


def _sided(*names: str) -> tuple[str, ...]:
    """Left and right of every name, in turn."""
    return tuple(f"{side} {name}" for name in names for side in ("left", "right"))


def _chains(names: Sequence[str], *chains: Sequence[int]) -> Bones:
    """Bones along paths of indices."""
    return tuple((names[a], names[b]) for chain in chains for a, b in pairwise(chain))


_BODY: Final = (
    "nose",
    *_sided("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"),
)
_BODY_SIGMAS: Final = (
    0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087,
    0.089, 0.089,
)  # fmt: skip
COCO: Final = KeypointSet(
    names=_BODY,
    sigmas=_BODY_SIGMAS,
    skeleton=_chains(
        _BODY, (15, 13, 11, 12, 14, 16), (11, 5, 6, 12), (5, 7, 9), (6, 8, 10), (1, 2, 0, 1, 3, 5), (2, 4, 6)
    ),
)
"""The 17 body keypoints of COCO, with its sigmas and skeleton."""

_ANIMAL: Final = (
    "left eye", "right eye", "nose", "neck", "root of tail",
    *(f"{side} {part}" for side in ("left", "right") for part in ("shoulder", "elbow", "front paw")),
    *(f"{side} {part}" for side in ("left", "right") for part in ("hip", "knee", "back paw")),
)  # fmt: skip
AP10K: Final = KeypointSet(
    names=_ANIMAL,
    sigmas=(0.025, 0.025, 0.026, *_BODY_SIGMAS[3:]),  # by position, as the benchmark is scored
    skeleton=_chains(
        _ANIMAL, (1, 0, 2, 1), (2, 3, 4), (3, 5, 6, 7), (3, 8, 9, 10), (4, 11, 12, 13), (4, 14, 15, 16)
    ),
)
"""The 17 animal keypoints of AP-10K."""

_KNUCKLES: Final = ("root", "third knuckle", "second knuckle", "first knuckle")
_FINGERS: Final = ("forefinger", "middle finger", "ring finger", "pinky finger")
_HAND: Final = (
    "wrist",
    "thumb root",
    *(f"thumb's {joint}" for joint in _KNUCKLES[1:]),
    *(f"{finger}'s {joint}" for finger in _FINGERS for joint in _KNUCKLES),
)
HAND: Final = KeypointSet(
    names=_HAND,
    sigmas=(
        0.029, 0.022, 0.035, 0.037, 0.047, 0.026, 0.025, 0.024, 0.035, 0.018, 0.024, 0.022, 0.026, 0.017,
        0.021, 0.021, 0.032, 0.02, 0.019, 0.022, 0.031,
    ),
    skeleton=_chains(_HAND, *((0, *range(first, first + 4)) for first in range(1, 21, 4))),
)  # fmt: skip
"""The 21 hand keypoints of COCO-WholeBody: wrist, then five fingers from root to tip."""


def _numbered(name: str, numbers: Sequence[int]) -> tuple[str, ...]:
    return tuple(f"{name} {number}" for number in numbers)


def _half_jaw(side: str) -> tuple[str, ...]:
    """From the ear downwards."""
    return *_numbered(f"{side} cheekbone", (1, 2)), *_numbered(f"{side} cheek", range(1, 6)), f"{side} chin"


def _eye(side: str) -> tuple[str, ...]:
    """Around the eye, from its right corner in the picture's direction."""
    name = f"{side} eye"
    upper, lower = _numbered(f"{name} upper eyelid", (1, 2)), _numbered(f"{name} lower eyelid", (2, 1))
    return f"{name} eye corner 1", *upper, f"{name} eye corner 2", *lower


_FACE: Final = (
    *_half_jaw("right"), "chin center", *reversed(_half_jaw("left")),
    *_numbered("right eyebrow", range(1, 6)), *_numbered("left eyebrow", range(1, 6)),
    *_numbered("nasal bridge", range(1, 5)),
    *_numbered("right nasal wing", (1, 2)), "nasal wing center", *_numbered("left nasal wing", (1, 2)),
    *_eye("right"), *_eye("left"),
    "right mouth corner", *_numbered("upper lip outer edge", range(1, 6)),
    "left mouth corner", *_numbered("lower lip outer edge", range(5, 0, -1)),
    *_numbered("upper lip inter edge", range(1, 6)), *_numbered("lower lip inter edge", range(3, 0, -1)),
)  # fmt: skip
FACE68: Final = KeypointSet(
    names=_FACE,
    sigmas=(
        0.042, 0.043, 0.044, 0.043, 0.040, 0.035, 0.031, 0.025, 0.020, 0.023, 0.029, 0.032, 0.037, 0.038,
        0.043, 0.041, 0.045, 0.013, 0.012, 0.011, 0.011, 0.012, 0.012, 0.011, 0.011, 0.013, 0.015, 0.009,
        0.007, 0.007, 0.007, 0.012, 0.009, 0.008, 0.016, 0.010, 0.017, 0.011, 0.009, 0.011, 0.009, 0.007,
        0.013, 0.008, 0.011, 0.012, 0.010, 0.034, 0.008, 0.008, 0.009, 0.008, 0.008, 0.007, 0.010, 0.008,
        0.009, 0.009, 0.009, 0.007, 0.007, 0.008, 0.011, 0.008, 0.008, 0.008, 0.010, 0.008,
    ),
    skeleton=_chains(
        _FACE, range(17), range(17, 22), range(22, 27), range(27, 31), range(31, 36),
        (*range(36, 42), 36), (*range(42, 48), 42), (*range(48, 60), 48), (*range(60, 68), 60),
    ),
)  # fmt: skip
"""The 68 face landmarks: jaw, eyebrows, nose, eyes, lips. "Right" is the person's right."""

KEYPOINT_SETS: Final[Mapping[str, KeypointSet]] = MappingProxyType(
    {"coco": COCO, "ap10k": AP10K, "hand": HAND, "face68": FACE68}
)


def same_name(name: str) -> str:
    """The form in which names are compared: case, underscores, blanks, kinds of apostrophes do not count."""
    return " ".join(name.casefold().replace("_", " ").replace("\u2019", "'").split())


def keypoint_set(keypoints: str | Sequence[str]) -> KeypointSet:
    """The keypoints that a caller asks for.

    Args:
        keypoints: the name of a set, such as `coco`, or a list of free keypoint names. Known names, such as
            `left knee`, get their sigma and their bones from the sets; others `DEFAULT_SIGMA` and no bone.

    Raises:
        InputError: an unknown set, no name, an empty one, one that is not text, or one given twice.
    """
    if isinstance(keypoints, str):
        if keypoints not in KEYPOINT_SETS:
            raise InputError(
                "there is no keypoint set of this name",
                value=keypoints,
                limit=sorted(KEYPOINT_SETS),
                remedy="Name one of these sets, or pass a list of keypoint names, such as ['nose', 'tail'].",
            )
        return KEYPOINT_SETS[keypoints]
    names = _checked(keypoints)
    return KeypointSet(names, sigmas_of(names), skeleton_of(names))


def sigmas_of(names: Sequence[str]) -> tuple[float, ...]:
    """The sigma of each name.

    If the names are just those of a set, in its order, the set's; else that of the same name in the first set
    that has it, or `DEFAULT_SIGMA`.
    """
    keys = [same_name(name) for name in names]
    for known in KEYPOINT_SETS.values():
        if keys == [same_name(name) for name in known.names]:
            return known.sigmas
    by_name: dict[str, float] = {}
    for known in KEYPOINT_SETS.values():
        for name, sigma in zip(known.names, known.sigmas, strict=True):
            by_name.setdefault(same_name(name), sigma)
    return tuple(by_name.get(key, DEFAULT_SIGMA) for key in keys)


def skeleton_of(names: Sequence[str]) -> Bones:
    """The bones between these names, in their spelling, of the set that knows most of them."""
    spelling = {same_name(name): name for name in names}
    found = []
    for known in KEYPOINT_SETS.values():
        ends = ((same_name(a), same_name(b)) for a, b in known.skeleton)
        found.append(tuple((spelling[a], spelling[b]) for a, b in ends if a in spelling and b in spelling))
    return max(found, key=len)


def _checked(keypoints: Sequence[str]) -> tuple[str, ...]:
    """The names with blanks squeezed."""
    if not isinstance(keypoints, Sequence):
        raise InputError(
            "keypoints are the name of a set, or a list of names",
            value=keypoints,
            remedy=f"Pass one of {', '.join(KEYPOINT_SETS)}, or a list such as ['nose', 'tail'].",
        )
    seen: set[str] = set()
    names = []
    for name in keypoints:
        if not isinstance(name, str) or not name.strip():
            raise InputError("a keypoint name is not text, or empty", value=name, limit="at least one word")
        if same_name(name) in seen:
            raise InputError("a keypoint is asked for twice", value=name, remedy="Name each keypoint once.")
        seen.add(same_name(name))
        names.append(" ".join(name.split()))
    if not names:
        raise InputError(
            "there is no keypoint to look for",
            value=[],
            remedy=f"Name at least one, or one of the sets {', '.join(KEYPOINT_SETS)}.",
        )
    return tuple(names)


def keypoint_similarity(
    found: npt.ArrayLike,
    truth: npt.ArrayLike,
    placed: npt.ArrayLike,
    *,
    area: npt.ArrayLike,
    sigmas: npt.ArrayLike,
) -> npt.NDArray[np.float64]:
    """Object keypoint similarity (OKS), the measure behind COCO's keypoint AP.

    Leading axes broadcast: `found[:, None]` against `truth[None]` gives a table of all pairs.

    Args:
        found: (..., K, 2) points (x, y).
        truth: (..., K, 2) points in the same units.
        placed: (..., K) bool, true keypoints whose place is known; others do not count.
        area: (...) area of the true objects, in squares of the same units.
        sigmas: (K,) as in `KeypointSet`.

    Returns:
        (...) in [0, 1]; 0 where no keypoint counts.
    """
    counted: npt.NDArray[Any] = np.asarray(placed, dtype=bool)
    squared = np.square(np.asarray(found, dtype=float) - np.asarray(truth, dtype=float)).sum(-1)
    spread = 2 * np.asarray(area, dtype=float)[..., None] * np.square(2 * np.asarray(sigmas, dtype=float))
    similar = np.exp(-squared / np.maximum(spread, np.finfo(float).tiny)) * counted
    result: npt.NDArray[np.float64] = similar.sum(-1) / np.maximum(counted.sum(-1), 1)
    return result
