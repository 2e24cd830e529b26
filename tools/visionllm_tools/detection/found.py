"""What the detection tool keeps between the detector's passes and its typed results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from visionllm_tools.detection.config import Look
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.outputs import Predictions
from visionllm_tools.detection.postprocess import Candidates
from visionllm_tools.detection.prepare import Size
from visionllm_tools.requests import pixels_at_once

_STRIDE = 4


@dataclass(frozen=True, kw_only=True)
class Row:
    """One pass over one image with one group of a request's labels.

    Attributes:
        request: position of the request.
        image: position of its image in the batch.
        labels: which of the request's labels.
        states: their super-links, (N, E, C).
    """

    request: int
    image: int
    labels: range
    states: Tensor


@dataclass(frozen=True, kw_only=True, eq=False)
class Seen:
    """What masks of a row are made of, as one look at the image gave it.

    Attributes:
        queries: (Q, C).
        size: height and width of the resized image without padding.
        finest: backbone map, (C_0, H / 4, W / 4).
        encoded: finest level of the pyramid, (C, H / 8, W / 8).
        features: mask features (M, H / 4, W / 4); None before they are needed.
    """

    queries: Tensor
    size: Size
    finest: Tensor
    encoded: Tensor
    features: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Found:
    """What the detector said of one group of a request's labels.

    Attributes:
        labels: which of the request's labels.
        logits: (Q, N) of the queries of all looks; -inf of what a look is not for.
        boxes: (Q, 4).
        seen: of each look, in the order of its queries.
        kept: pairs of a query and a label that are reported; None: all of them, in a semantic map.
    """

    labels: range
    logits: Tensor
    boxes: Tensor
    seen: tuple[Seen, ...]
    kept: Candidates | None = None

    @classmethod
    def of(cls, output: Predictions, row: int, labels: range, *, size: Size, look: Look) -> Found:
        """One row of a pass.

        Args:
            output: of the pass.
            row: which one.
            labels: of the request.
            size: height and width of the resized image.
            look: which things it is for.
        """
        last = output.layers[-1]
        boxes, logits = last.boxes[row], last.logits[row, :, : len(labels)]
        sides = boxes[:, 2:].float() * boxes.new_tensor([size[1], size[0]]).float()
        meant = look.tells_of(sides)
        seen = Seen(
            queries=last.queries[row],
            size=size,
            finest=output.features[0][row],
            encoded=output.pyramid.level(0)[row],
        )
        logits = logits.masked_fill(~meant[:, None], -torch.inf)
        return cls(labels=labels, logits=logits, boxes=boxes, seen=(seen,))

    @classmethod
    def join(cls, looks: Sequence[Found]) -> Found:
        """One group of labels in several looks."""
        if len(looks) == 1:
            return looks[0]
        return cls(
            labels=looks[0].labels,
            logits=torch.cat([one.logits for one in looks]),
            boxes=torch.cat([one.boxes for one in looks]),
            seen=tuple(seen for one in looks for seen in one.seen),
        )

    def by_look(self, queries: Tensor) -> Iterator[tuple[Seen, Tensor, Tensor]]:
        """Each look, the positions among `queries` (K,) of those that are its own, and its rows for them."""
        start = 0
        for seen in self.seen:
            own = queries - start
            places = ((own >= 0) & (own < len(seen.queries))).nonzero()[:, 0]
            yield seen, places, own[places]
            start += len(seen.queries)

    def used(self) -> Iterator[Seen]:
        """The looks that have found something that is kept."""
        if self.kept is None:
            yield from self.seen
            return
        yield from (seen for seen, places, _ in self.by_look(self.kept.queries) if len(places))


def described(decoder: Detector, seen: Sequence[Seen]) -> list[Seen]:
    """The looks with mask features, computed for as many at once as a pass of the decoder should take.

    Args:
        decoder: the detector.
        seen: of images of any size.
    """
    shapes: dict[tuple[int, ...], list[int]] = {}
    for position, one in enumerate(seen):
        shapes.setdefault(tuple(one.finest.shape), []).append(position)
    full = list(seen)
    for shape, members in shapes.items():
        step = max(1, pixels_at_once(decoder) // (shape[-2] * shape[-1] * _STRIDE**2))
        for start in range(0, len(members), step):
            part = members[start : start + step]
            features = decoder.model.describe_masks(
                torch.stack([seen[i].finest for i in part]), torch.stack([seen[i].encoded for i in part])
            )
            for i, own in zip(part, features, strict=True):
                full[i] = replace(seen[i], features=own)
    return full
