"""Evaluation of region prompts: every labelled thing is marked by its box."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from visionllm_adapters.data.records import DataSet
from visionllm_adapters.scoring.basics import chunks, need
from visionllm_adapters.scoring.score import Score
from visionllm_adapters.scoring.words import caption_f1, rouge_l

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM


def describe(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """Agreement of what is said about marked things with their expressions: F1 of words, ROUGE-L."""
    records = [record for record in data.records if record.references]
    need(records, data, "describe", "expressions")
    verdicts: dict[str, float] = {}
    ratios: list[float] = []
    for part in chunks(records, batch):
        images: list[Any] = [record.load() for record in part]
        boxes: list[Any] = [[one.thing.box for one in record.references] for record in part]
        replies = vlm.describe(images, boxes, adapter=adapter)
        for record, own in zip(part, replies, strict=True):
            for number, (reference, reply) in enumerate(zip(record.references, own, strict=True)):
                key = f"{record.key}, {number}: {reference.expression}"
                verdicts[key] = caption_f1(reply.text, reference.expression)
                ratios.append(rouge_l(reply.text, reference.expression))
    return Score(
        skill="describe",
        metric="f1",
        figures={"f1": float(np.mean(list(verdicts.values()))), "rouge_l": float(np.mean(ratios))},
        counts={"pictures": len(records), "expressions": len(verdicts)},
        verdicts=verdicts,
    )


def classify(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """Share of marked things whose class is chosen from all classes of the data."""
    records = [record for record in data.records if record.learnable]
    need(records, data, "classify", "objects")
    table: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    verdicts: dict[str, float] = {}
    for part in chunks(records, batch):
        images: list[Any] = [record.load() for record in part]
        boxes: list[Any] = [[thing.box for thing in record.learnable] for record in part]
        replies = vlm.classify(images, boxes, list(data.labels), adapter=adapter)
        for record, own in zip(part, replies, strict=True):
            for number, (thing, reply) in enumerate(zip(record.learnable, own, strict=True)):
                table[thing.label][reply.label] += 1
                verdicts[f"{record.key}, {number}: {thing.label}"] = float(reply.label == thing.label)
    return Score(
        skill="classify",
        metric="accuracy",
        figures={"accuracy": float(np.mean(list(verdicts.values())))},
        classes={name: {"accuracy": row[name] / sum(row.values())} for name, row in table.items()},
        counts={"pictures": len(records), "objects": len(verdicts)},
        confusion={name: dict(row) for name, row in table.items()},
        verdicts=verdicts,
    )


def segment_regions(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """Mean IoU of the masks of marked things, of their boxes where the data has no masks."""
    records = [record for record in data.records if record.learnable]
    need(records, data, "segment_regions", "objects")
    ious: list[float] = []
    verdicts: dict[str, float] = {}
    drawings = {}
    for part in chunks(records, batch):
        images: list[Any] = [record.load() for record in part]
        boxes: list[Any] = [[thing.box for thing in record.learnable] for record in part]
        results = vlm.segment_regions(images, boxes, adapter=adapter)
        for record, result in zip(part, results, strict=True):
            pairs = list(zip(record.learnable, result, strict=True))
            own = [
                one.mask.iou(thing.mask)
                if thing.mask is not None and one.mask is not None
                else one.box.iou(thing.box)
                for thing, one in pairs
            ]
            ious += own
            verdicts[record.key] = float(np.mean(own))
            drawings[record.key] = result.draw(record.load())
    return Score(
        skill="segment_regions",
        metric="miou",
        figures={"miou": float(np.mean(ious)), "acc50": float(np.mean([iou >= 0.5 for iou in ious]))},
        counts={"pictures": len(records), "objects": len(ious)},
        drawings=dict(list(drawings.items())[:24]),
        verdicts=verdicts,
    )
