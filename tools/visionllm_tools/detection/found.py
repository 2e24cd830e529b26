"""What the detection tool keeps between the detector's passes and its typed results."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from visionllm_tools.detection.decoder import Detector
from visionllm_tools.detection.outputs import Predictions
from visionllm_tools.detection.postprocess import Candidates
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


@dataclass(frozen=True, kw_only=True)
class Found:
    """What the detector said in one row.

    Attributes:
        labels: which of the request's labels.
        logits: (Q, N).
        boxes: (Q, 4).
        queries: (Q, C).
        finest: backbone map, (C_0, H / 4, W / 4).
        encoded: finest level of the pyramid, (C, H / 8, W / 8).
        kept: pairs of a query and a label that are reported; None: all of them, in a semantic map.
        features: mask features (M, H / 4, W / 4); None where no mask is wanted.
    """

    labels: range
    logits: Tensor
    boxes: Tensor
    queries: Tensor
    finest: Tensor
    encoded: Tensor
    kept: Candidates | None = None
    features: Tensor | None = None

    @classmethod
    def of(cls, output: Predictions, row: int, labels: range) -> Found:
        """One row of a pass."""
        last = output.layers[-1]
        return cls(
            labels=labels,
            logits=last.logits[row, :, : len(labels)],
            boxes=last.boxes[row],
            queries=last.queries[row],
            finest=output.features[0][row],
            encoded=output.pyramid.level(0)[row],
        )


def described(decoder: Detector, rows: Sequence[Found]) -> Iterator[Found]:
    """The rows with mask features, computed for as many at once as a pass of the decoder should take.

    Args:
        decoder: the detector.
        rows: of images of one padded size.
    """
    if not rows:
        return
    step = max(1, pixels_at_once(decoder) // (rows[0].finest[0].numel() * _STRIDE**2))
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        features = decoder.model.describe_masks(
            torch.stack([row.finest for row in part]), torch.stack([row.encoded for row in part])
        )
        yield from (replace(row, features=own) for row, own in zip(part, features, strict=True))
