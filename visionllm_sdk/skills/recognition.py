"""Recognition: which of some labels names what a region prompt marks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from visionllm_sdk.model.conversation import Turn, image_parts, region_list
from visionllm_sdk.model.prompt import Prompt
from visionllm_sdk.model.scoring import score_answers
from visionllm_sdk.regions import Region, region_name
from visionllm_sdk.results import RegionLabel
from visionllm_sdk.skills.closer import seen_through, window_around
from visionllm_sdk.skills.engine import Engine
from visionllm_sdk.skills.regional import Marked, Seen, layout_of, look, worded

Labels: TypeAlias = tuple[str, ...]
LogShares: TypeAlias = npt.NDArray[np.float64]
"""Logarithm of each label's share of the probability of all offered ones. (labels,)"""
_LOOKS: Final = 4
"""Most closer looks at one picture. Each costs as much as a picture of its own."""
_REGIONS_A_LOOK: Final = 5
"""So many regions cost as much as one closer look."""


def classify(engine: Engine, items: Sequence[Marked], labels: Sequence[Labels]) -> list[list[RegionLabel]]:
    """The most probable of the offered labels for every region.

    Where a checkpoint asks for it (``closer_look``), what stays in doubt is looked at once more from nearby,
    and the two looks are counted as independent. There are at most four such looks at a picture and fewer at
    one with many regions, at those that are most in doubt of all that more is seen of from nearby.

    Args:
        engine: the model.
        items: images with regions.
        labels: of each image.

    Returns:
        Labels with their share of the probability of all offered ones.
    """
    with engine.turn():
        shares = _log_shares(engine, items, labels)
        if (enough := engine.model.config.sdk.closer_look) is not None:
            _look_closer(engine, items, labels, shares, enough)
    found = iter(shares)
    return [
        [_likeliest(item, number, offered, next(found)) for number in range(len(item.regions))]
        for item, offered in zip(items, labels, strict=True)
    ]


def _likeliest(item: Marked, number: int, labels: Labels, shares: LogShares) -> RegionLabel:
    best = int(shares.argmax())
    return RegionLabel(region=item.regions[number], label=labels[best], score=float(np.exp(shares[best])))


def _log_shares(engine: Engine, items: Sequence[Marked], labels: Sequence[Labels]) -> list[LogShares]:
    """Of every region of every image, in order."""
    prompts: list[Prompt] = []
    for seen, offered in zip(look(engine, items), labels, strict=True):
        prompts += _named(engine, seen, offered)
    scores = iter(score_answers(engine.model.core, prompts, pad_id=engine.model.tokenizer.pad_id))
    return [
        _normalised(np.array([next(scores) for _ in offered]))
        for item, offered in zip(items, labels, strict=True)
        for _ in item.regions
    ]


def _named(engine: Engine, seen: Seen, labels: Labels) -> Iterator[Prompt]:
    """One prompt for every region and label, with the label as its answer."""
    question = (*image_parts(), *worded(layout_of(engine, "recognise"), region_list([region_name(0)])))
    built = [
        engine.generator.builder.build([Turn(question, (label,))], [seen.image], seen.prompts[:1])
        for label in labels
    ]
    for prompt in seen.prompts:
        for one in built:
            yield Prompt(ids=one.ids, marks=one.marks, images=one.images, regions=(prompt,))


def _look_closer(
    engine: Engine, items: Sequence[Marked], labels: Sequence[Labels], shares: list[LogShares], enough: float
) -> None:
    """Look once more at regions none of whose labels has `enough` of the probability; update their shares."""
    nearby: dict[int, tuple[Marked, Labels]] = {}
    start = 0
    for item, offered in zip(items, labels, strict=True):
        best = [one.max() for one in shares[start : start + len(item.regions)]]
        doubtful = [number for number in np.argsort(best, kind="stable") if best[number] < np.log(enough)]
        closer = ((number, _from_nearby(engine, item, item.regions[number])) for number in doubtful)
        worthwhile = ((int(number), cut_out) for number, cut_out in closer if cut_out is not None)
        for number, cut_out in islice(worthwhile, looks_at(len(item.regions))):
            nearby[start + number] = cut_out, offered
        start += len(item.regions)
    again = _log_shares(engine, [one for one, _ in nearby.values()], [own for _, own in nearby.values()])
    for place, second in zip(nearby, again, strict=True):
        shares[place] = _normalised(shares[place] + second)


def looks_at(regions: int) -> int:
    """Most closer looks at a picture; fewer with many regions: twenty should cost less than three times one.

    Args:
        regions: how many are asked about.
    """
    return max(1, _LOOKS - (regions - 1) // _REGIONS_A_LOOK)


def _from_nearby(engine: Engine, item: Marked, region: Region) -> Marked | None:
    """The region in a picture of its surroundings; None if that would show nothing new."""
    window = window_around(region, (item.image.width, item.image.height), engine.model.config.image_size)
    if window is None:
        return None
    return Marked(window.cut(item.image), (seen_through(region, window),))


def _normalised(scores: LogShares) -> LogShares:
    shares: LogShares = scores - np.logaddexp.reduce(scores)
    return shares
