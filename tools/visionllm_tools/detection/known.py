"""What a detector said before it learnt something new, and how far it has strayed from that.

Learning without forgetting (Li and Hoiem, 2016), for a detector: its queries have no fixed places, so what is
compared is what is said of a place - the best score of each label among the boxes that lie there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from visionllm_tools.blocks.boxes import overlap, suppress, to_corners
from visionllm_tools.detection.outputs import LayerOutput, Predictions

_SAME_PLACE: Final = 0.5
"""IoU from which two boxes are about one place."""
_LEAST: Final = 0.05
"""Places where no label scores more are of no interest."""
_MOST: Final = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """All that a detector said of one request.

    Attributes:
        logits: (Q, N) of the last layer, N the request's labels.
        boxes: (Q, 4) corners in [0, 1] of the image without padding.
    """

    logits: Tensor
    boxes: Tensor

    @classmethod
    def of(cls, layer: LayerOutput, row: int, labels: int) -> Known:
        """What a layer said of one row of a batch."""
        return cls(logits=layer.logits[row, :, :labels].float(), boxes=to_corners(layer.boxes[row].float()))

    @torch.no_grad()
    def places(self) -> Tensor:
        """The (K, 4) boxes in which something may be, best first."""
        best = self.logits.sigmoid().amax(-1)
        chosen = suppress(self.boxes, best, threshold=_SAME_PLACE)[:_MOST]
        return self.boxes[chosen[best[chosen] >= _LEAST]]

    def said_of(self, places: Tensor) -> Tensor:
        """Best logit of every label in every place, (K, 4) -> (K, N); -inf where no box lies."""
        there = overlap(places[:, None], self.boxes[None])[0] >= _SAME_PLACE
        return self.logits[None].masked_fill(~there[..., None], -torch.inf).amax(1)


def strayed(output: Predictions, known: Sequence[Known | None]) -> Tensor:
    """Divergence (KL) in nats of what is said now, summed over labels, the mean of all places. ()

    Args:
        output: of the forward pass that learns.
        known: what was said of each row before; None: nothing is known.
    """
    found = [
        _divergence(Known.of(output.layers[-1], row, one.logits.shape[1]), one)
        for row, one in enumerate(known)
        if one is not None
    ]
    each = torch.cat(found) if found else output.logits.new_zeros(0)
    return each.sum() / max(1, len(each))


def _divergence(now: Known, before: Known) -> Tensor:
    """Of every place of either, (K,). Where no box lies any more, the losses of boxes have to mend it."""
    places = torch.cat([before.places(), now.places()])
    logits = now.said_of(places)
    there = logits.isfinite().all(-1)
    share = before.said_of(places[there]).sigmoid()
    logits = logits[there]
    entropy = torch.special.entr(share) + torch.special.entr(1 - share)
    each = F.binary_cross_entropy_with_logits(logits, share, reduction="none") - entropy
    return each.sum(-1)
