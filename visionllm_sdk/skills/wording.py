"""What a tool has found, in the words in which the model is told of it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import singledispatch
from typing import Any

import numpy as np

from visionllm_sdk.results import Count, Detections, Grounding, Mask, Poses, RoutedCall, SemanticMap
from visionllm_sdk.scenes.language import found_sentence

Finding = tuple[str, int]
"""A label and how many there are of it."""

_SPECK = 5e-4  # share of the image below which a separate patch of a semantic map is not a thing
_ARTICLES = ("the ", "a ", "an ")


def report(calls: Iterable[RoutedCall]) -> str | None:
    """What the calls found in one sentence, ``2 red circles, no star.``; None if one cannot be counted."""
    findings: dict[str, int] = {}
    for call in calls:
        counted = count_findings(call.result)
        if counted is None:
            return None
        for label, number in counted:
            findings.setdefault(_bare(label), number)
    return f"{found_sentence(list(findings.items()))}." if findings else None


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
    return [(result.label, len(result.poses))]


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
