"""What a tool has found, in the words in which the model is told of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import singledispatch
from typing import Any

import numpy as np

from visionllm_sdk.regions import region_number
from visionllm_sdk.results import (
    Count,
    Detection,
    Detections,
    Grounding,
    Mask,
    Poses,
    RoutedCall,
    SemanticMap,
)
from visionllm_sdk.scenes.reports import Sighting, found_sentence, told_sightings

Finding = tuple[str, int]
"""A label and how many there are of it."""

_SPECK = 5e-4  # share of the image below which a separate patch of a semantic map is not a thing
_ARTICLES = ("the ", "a ", "an ")


def report(calls: Iterable[RoutedCall]) -> str | None:
    """What the calls found in one sentence; None if one cannot be told.

    ``2 red circles, no star.`` where things were counted, ``the star at the top left.`` where one was
    pointed at, ``the star at the left, the dog at the right (left of, smaller).`` where two were. Of kinds
    whose poses were asked for, the poses are told: the detection beside them says whose, not how many.
    """
    calls = list(calls)
    if any(region_number(label) is not None for call in calls for label in call.labels):
        return None
    told: dict[str, None] = {}
    sightings = list(dict.fromkeys(found for call in calls for found in _sightings(call.result)))
    placed = dict(zip(sightings, told_sightings(sightings), strict=True))
    posed = {kind for call in calls if isinstance(call.result, Poses) for kind in _asked_kinds(call.result)}
    for call in calls:
        if isinstance(call.result, Detections) and posed and posed.issuperset(call.result.class_names()):
            continue
        findings = _findings(call.result, placed)
        if findings is None:
            return None
        told |= dict.fromkeys(findings)
    return f"{', '.join(told)}." if told else None


def findings_of(result: Any) -> list[str] | None:
    """What a result holds, one phrase for each asked label; None for kinds of results that cannot be told."""
    return _findings(result, {found: found.text for found in _sightings(result)})


def _findings(result: Any, placed: Mapping[Sighting, str]) -> list[str] | None:
    if isinstance(result, Grounding) and len(result):
        seen = {found.expression: placed[found] for found in _sightings(result)}
        return [seen.get(label) or found_sentence([(_bare(label), 0)]) for label in result.labels]
    counted = count_findings(result)
    return (
        None if counted is None else [found_sentence([(_bare(label), number)]) for label, number in counted]
    )


def _sightings(result: Any) -> list[Sighting]:
    """Where the best detections of the expressions of a grounding lie."""
    if not isinstance(result, Grounding):
        return []
    best: dict[str, Detection] = {}
    for found in sorted(result, key=lambda detection: detection.score):
        best[found.label] = found
    sightings = []
    for expression in result.labels:
        if expression not in best:
            continue
        box = best[expression].box
        x, y = box.center
        size = max(box.width, box.height) / min(result.width, result.height)
        sightings.append(Sighting(expression, (x / result.width, y / result.height), size))
    return sightings


def _bare(label: str) -> str:
    for article in _ARTICLES:
        label = label.removeprefix(article)
    return label


@singledispatch
def count_findings(result: Any) -> list[Finding] | None:
    """How many of each asked label a result holds; None for kinds of results that count nothing."""
    return None


@count_findings.register
def _(result: Detections) -> list[Finding]:
    labels = [detection.label for detection in result]
    return [(label, labels.count(label)) for label in result.class_names()]


@count_findings.register
def _(result: Grounding) -> list[Finding]:
    return [(result.expression, min(len(result), 1))]


@count_findings.register
def _(result: Count) -> list[Finding]:
    return [(result.label, result.count)]


@count_findings.register
def _(result: Poses) -> list[Finding]:
    kinds = [pose.label for pose in result]
    return [(kind, kinds.count(kind)) for kind in _asked_kinds(result)]


def _asked_kinds(result: Poses) -> list[str]:
    """The kinds of things whose poses were asked for, and those that were found."""
    return list(dict.fromkeys([*filter(None, result.label.split(", ")), *(pose.label for pose in result)]))


@count_findings.register
def _(result: SemanticMap) -> list[Finding]:
    return [(label, _patches(mask)) for label, mask in zip(result.labels, result.masks, strict=True)]


def _patches(mask: Mask) -> int:
    """Number of separate patches of a mask, specks left out."""
    if not mask.area:
        return 0
    from scipy import ndimage

    numbered, _ = ndimage.label(mask.to_numpy())
    sizes = np.bincount(numbered.ravel())[1:]
    return max(1, int((sizes >= _SPECK * numbered.size).sum()))
