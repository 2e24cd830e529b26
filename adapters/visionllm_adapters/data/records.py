"""Labelled pictures, whatever file format they came in."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image

from visionllm_adapters.data.faults import Fault, raise_for
from visionllm_sdk.errors import DataError
from visionllm_sdk.geometry import Box, Mask
from visionllm_sdk.images import LoadedImage, load_image

Triple = tuple[float, float, int]
"""A keypoint: x and y in pixels, and COCO's visibility (0 not labelled, 1 hidden, 2 visible)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """One labelled object.

    Attributes:
        label: its class.
        box: in pixels of the picture, inside it.
        mask: of the picture's size.
        keypoints: in the order of the class's names; empty where there are none.
        crowd: a region of many; neither learnt nor counted against a model.
        area: as the file says, in pixels; that of the mask or the box without one.
    """

    label: str
    box: Box
    mask: Mask | None = None
    keypoints: tuple[Triple, ...] = ()
    crowd: bool = False
    area: float = 0.0


@dataclass(frozen=True, slots=True)
class Reference:
    """An expression and the one thing that it means."""

    expression: str
    thing: Thing


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question with its accepted answers; the first is learnt."""

    question: str
    answers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """An instruction and the picture that it leads to: a path, content of a file, or picture."""

    instruction: str
    after: Path | bytes | Image.Image


@dataclass(frozen=True, kw_only=True)
class Record:
    """One picture with everything known about it.

    Attributes:
        key: names it in messages; unique in its set.
        source: path, content of a file, or picture.
        width: in pixels, after EXIF orientation.
        height: in pixels.
        things: labelled objects; None where the format says nothing about objects.
        references: expressions.
        exchanges: questions; several of one picture are one conversation.
        captions: descriptions.
        changes: edits of it.
    """

    key: str
    source: Path | bytes | Image.Image
    width: int
    height: int
    things: tuple[Thing, ...] | None = None
    references: tuple[Reference, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    captions: tuple[str, ...] = ()
    changes: tuple[Change, ...] = ()

    def load(self) -> LoadedImage:
        """The picture.

        Raises:
            ImageError: it cannot be used.
        """
        return load_image(self.source)

    @property
    def learnable(self) -> tuple[Thing, ...]:
        """The things without crowds."""
        return tuple(thing for thing in self.things or () if not thing.crowd)

    def facts(self) -> dict[str, Any]:
        """What is known, JSON-safe: what a fingerprint is made of."""
        return {
            "key": self.key,
            "size": [self.width, self.height],
            "things": None if self.things is None else [_thing_facts(thing) for thing in self.things],
            "references": [[one.expression, _thing_facts(one.thing)] for one in self.references],
            "exchanges": [[one.question, list(one.answers)] for one in self.exchanges],
            "captions": list(self.captions),
            "changes": [[one.instruction, load_image(one.after).digest] for one in self.changes],
        }


def _thing_facts(thing: Thing) -> list[Any]:
    mask = None if thing.mask is None else thing.mask.counts
    points = [list(point) for point in thing.keypoints]
    return [thing.label, list(thing.box.xyxy), mask, points, thing.crowd, thing.area]


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """Pictures with their labels, and what was wrong with the rest.

    Attributes:
        name: where it came from.
        form: the format it was in.
        records: usable pictures; faulty annotations are not among their things.
        labels: classes in the order of the file.
        keypoints: names of the keypoints by class.
        skeletons: pairs of keypoint names to be joined, by class.
        faults: everything that was found wrong.
    """

    name: str
    form: str
    records: tuple[Record, ...]
    labels: tuple[str, ...] = ()
    keypoints: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    skeletons: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    faults: tuple[Fault, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    def usable(self, *, skip_faulty: bool = False) -> DataSet:
        """The set itself, once it is certain that something can be learnt from it.

        Args:
            skip_faulty: leave faulty items out (they stay counted in `faults`) instead of refusing the set.

        Raises:
            DataError: faulty items, or nothing left, or two classes that a model cannot be asked for apart.
        """
        if not skip_faulty:
            raise_for(self.faults, self.name)
        if twins := self.twins():
            raise DataError(
                f"{self.name} has classes whose names differ in case alone, which one question asks for",
                value=", ".join(map(repr, twins)),
                remedy="Give them one spelling, or other names.",
            )
        if not self.records:
            raise DataError(
                f"{self.name} holds no usable picture",
                value=f"0 pictures, {len(self.faults)} faults",
                remedy="Run `visionllm data check` to see why.",
            )
        return self

    def twins(self) -> list[str]:
        """Classes of labelled objects whose names differ in case alone; none where there are no objects."""
        same = Counter(label.casefold() for label in self.labels)
        known = any(record.things for record in self.records)
        return [label for label in self.labels if known and same[label.casefold()] > 1]

    def without(self, keys: set[str]) -> DataSet:
        """The set without these records."""
        return replace(self, records=tuple(r for r in self.records if r.key not in keys))

    @property
    def counts(self) -> dict[str, int]:
        """How many things of each class, in the order of `labels`."""
        found = Counter(thing.label for record in self.records for thing in record.learnable)
        return {label: found[label] for label in self.labels}

    @cached_property
    def fingerprint(self) -> str:
        """Digest of all labels and pictures (hexadecimal, 128 bits); the same data gives the same one."""
        digest = hashlib.blake2b(digest_size=16)
        for record in self.records:
            digest.update(json.dumps(record.facts(), sort_keys=True).encode())
            digest.update(record.load().digest.encode())
        return digest.hexdigest()
