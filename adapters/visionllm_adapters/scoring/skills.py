"""Evaluation of each skill on labelled data: ask the model about every record, hold it against the labels."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from visionllm_adapters.data.records import DataSet, Record, Thing
from visionllm_adapters.scoring.basics import chunks, need, with_things
from visionllm_adapters.scoring.coco_figures import CocoJudge, spoken
from visionllm_adapters.scoring.score import Figures, Score
from visionllm_adapters.scoring.words import answer_score, bleu4, caption_f1, rouge_l
from visionllm_sdk.errors import DataError
from visionllm_sdk.results import Detections, Grounding

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

_FLOOR: Final = 0.02
"""Score from which detections enter the ranking."""
_DRAWN: Final = 24
NOTHING: Final = "nothing"


def detect(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """COCO precision of boxes, and of masks where the data has them."""
    data = with_things(data)  # the judge counts its records, too
    records = data.records
    things = [thing for record in records for thing in record.learnable]
    need(things, data, "detect", "objects")
    masked = all(thing.mask is not None for thing in things)
    found: list[Detections] = []
    for part in chunks(records, batch):
        images: list[Any] = [record.load() for record in part]
        found += vlm.detect(images, list(data.labels), threshold=_FLOOR, masks=masked, adapter=adapter)
    shown = _default_threshold(vlm)
    boxes = CocoJudge(data, "bbox")
    figures, classes, judge = boxes.judge([boxes.detections(one) for one in found])
    if masked:
        masks = CocoJudge(data, "segm")
        mask_figures, mask_classes, _ = masks.judge([masks.detections(one) for one in found])
        figures |= {f"mask_{name}": value for name, value in mask_figures.items()}
        for label, own in mask_classes.items():
            classes[label] |= {f"mask_{name}": value for name, value in own.items()}
    kept = [one.filter(min_score=shown) for one in found]
    table, verdicts = _confusion(records, kept)
    return Score(
        skill="detect",
        metric="ap50",
        figures=figures,
        classes=classes,
        sizes=boxes.sizes(judge),
        counts={"pictures": len(records), "objects": len(things)},
        confusion=table,
        drawings=_drawings(records, kept),
        verdicts=verdicts,
    )


def _default_threshold(vlm: VisionLLM) -> float:
    config = vlm.engine.model.config.to_released().get("gdino_config") or {}
    return float(config.get("score_threshold", 0.3))


def _drawings(records: Sequence[Record], found: Sequence[Detections]) -> dict[str, Image.Image]:
    pairs = list(zip(records, found, strict=True))[:_DRAWN]
    return {record.key: one.draw(record.load()) for record, one in pairs}


def _confusion(
    records: Sequence[Record], found: Sequence[Detections]
) -> tuple[dict[str, dict[str, int]], dict[str, float]]:
    """What was taken for what, and the share of right boxes of every picture (F1)."""
    table: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    verdicts: dict[str, float] = {}
    for record, result in zip(records, found, strict=True):
        right, left = 0, list(record.learnable)
        for detection in result:
            best: Thing | None = max(left, key=lambda t: t.box.iou(detection.box), default=None)
            if best is None or best.box.iou(detection.box) < 0.5:
                table[NOTHING][detection.label] += 1
                continue
            left.remove(best)
            table[best.label][detection.label] += 1
            right += best.label == detection.label
        for missed in left:
            table[missed.label][NOTHING] += 1
        total = len(result) + len(record.learnable)
        verdicts[record.key] = 2 * right / total if total else 1.0
    return {true: dict(row) for true, row in table.items()}, verdicts


def ground(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """Acc@0.5 of the best box; cIoU and gIoU of its mask, where the data has masks (RefCOCO)."""
    asked = [(record, reference) for record in data.records for reference in record.references]
    need(asked, data, "ground", "expressions")
    hits, common, union, ratios = 0, 0, 0, []
    verdicts: dict[str, float] = {}
    drawings: dict[str, Image.Image] = {}
    for part in chunks(asked, batch):
        images: list[Any] = [record.load() for record, _ in part]
        results = vlm.ground(images, [reference.expression for _, reference in part], adapter=adapter)
        for (record, reference), result in zip(part, results, strict=True):
            best = max(result, key=lambda d: d.score, default=None)
            right = best is not None and best.box.iou(reference.thing.box) >= 0.5
            hits += right
            key = f"{record.key}: {reference.expression}"
            verdicts[key] = float(right)
            if len(drawings) < _DRAWN:
                drawings[key] = result.draw(record.load())
            if reference.thing.mask is not None:
                own, all_ = _overlap(reference.thing, result)
                common, union = common + own, union + all_
                ratios.append(own / all_ if all_ else 1.0)
    figures: Figures = {
        "acc50": hits / len(asked),
        "ciou": common / union if union else None,
        "giou": float(np.mean(ratios)) if ratios else None,
    }
    return Score(
        skill="ground",
        metric="acc50",
        figures=figures,
        counts={"pictures": len(data.records), "expressions": len(asked)},
        drawings=drawings,
        verdicts=verdicts,
    )


def _overlap(thing: Thing, result: Grounding) -> tuple[int, int]:
    assert thing.mask is not None
    truth = thing.mask.to_numpy()
    best = max(result, key=lambda d: d.score, default=None)
    found = np.zeros_like(truth) if best is None or best.mask is None else best.mask.to_numpy()
    return int((truth & found).sum()), int((truth | found).sum())


def vqa(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """VQA accuracy; questions of one picture are asked one by one."""
    asked = [(record, exchange) for record in data.records for exchange in record.exchanges]
    need(asked, data, "vqa", "questions")
    verdicts: dict[str, float] = {}
    answers: dict[str, list[float]] = defaultdict(list)
    for part in chunks(asked, batch):
        images: list[Any] = [record.load() for record, _ in part]
        replies = vlm.ask(images, [exchange.question for _, exchange in part], adapter=adapter)
        for (record, exchange), reply in zip(part, replies, strict=True):
            score = answer_score(reply.text, exchange.answers)
            verdicts[f"{record.key}: {exchange.question}"] = score
            answers[exchange.answers[0]].append(score)
    few = len(answers) <= 40
    return Score(
        skill="vqa",
        metric="accuracy",
        figures={"accuracy": float(np.mean([score for own in answers.values() for score in own]))},
        classes={a: {"accuracy": float(np.mean(s))} for a, s in sorted(answers.items())} if few else {},
        counts={"pictures": len(data.records), "questions": len(asked)},
        verdicts=verdicts,
    )


def caption(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """Agreement of captions with those of the data: F1 of words, ROUGE-L, BLEU-4."""
    records = [record for record in data.records if record.captions]
    need(records, data, "caption", "captions")
    pairs: list[tuple[str, Sequence[str]]] = []
    for part in chunks(records, batch):
        images: list[Any] = [record.load() for record in part]
        pairs += [
            (reply.text, record.captions)
            for reply, record in zip(vlm.caption(images, adapter=adapter), part, strict=True)
        ]
    best = [max(caption_f1(given, one) for one in wanted) for given, wanted in pairs]
    figures: Figures = {
        "f1": float(np.mean(best)),
        "rouge_l": float(np.mean([max(rouge_l(given, one) for one in wanted) for given, wanted in pairs])),
        "bleu4": bleu4(pairs),
    }
    return Score(
        skill="caption",
        metric="f1",
        figures=figures,
        counts={"pictures": len(records)},
        verdicts={record.key: score for record, score in zip(records, best, strict=True)},
    )


def pose(vlm: VisionLLM, data: DataSet, *, adapter: str | None, batch: int) -> Score:
    """OKS precision of the keypoints of every class that has some."""
    names = {label: points for label, points in data.keypoints.items() if data.counts.get(label)}
    need(list(names), data, "pose", "keypoints")
    if len(set(names.values())) > 1:
        raise DataError(
            "poses are measured for one set of keypoints at a time",
            value=", ".join(names),
            remedy="Give classes with other keypoints a file of their own.",
        )
    data = with_things(data)
    judge = CocoJudge(data, "keypoints", next(iter(names.values())))
    found: list[list[dict[str, Any]]] = [[] for _ in data.records]
    drawings: dict[str, Image.Image] = {}
    for label, points in names.items():
        asked = [spoken(point) for point in points]
        for part in chunks(list(enumerate(data.records)), batch):
            images: list[Any] = [record.load() for _, record in part]
            results = vlm.pose(images, label, asked, threshold=_FLOOR, adapter=adapter)
            for (place, record), result in zip(part, results, strict=True):
                found[place] += judge.poses(result, points)
                if len(drawings) < _DRAWN:
                    drawings[record.key] = result.filter(min_score=0.3).draw(record.load())
    figures, classes, _ = judge.judge(found)
    return Score(
        skill="pose",
        metric="ap",
        figures=figures,
        classes={label: classes[label] for label in names},
        counts={"pictures": len(data.records), "objects": sum(data.counts[label] for label in names)},
        drawings=drawings,
    )
