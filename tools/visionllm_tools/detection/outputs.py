"""What goes into and comes out of the detector's layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from visionllm_tools.blocks.deformable import Pyramid


@dataclass(frozen=True, kw_only=True)
class ExtraQueries:
    """Queries that run beside the learned ones in training: noisy copies of the truth (denoising).

    Attributes:
        content: (B, D, C) embedded labels.
        boxes: (B, D, 4) reference box logits (cx, cy, w, h).
        mask: (D + Q, D + Q) bool, True where a query may see another; extra queries come first.
    """

    content: Tensor
    boxes: Tensor
    mask: Tensor


@dataclass(frozen=True, kw_only=True)
class LayerOutput:
    """Predictions of one layer. K queries, N labels.

    Attributes:
        logits: (B, K, N) label logits, -inf at absent labels.
        boxes: (B, K, 4) (cx, cy, w, h) in [0, 1] of the image without padding.
        queries: (B, K, C) states from which masks are made.
    """

    logits: Tensor
    boxes: Tensor
    queries: Tensor

    def part(self, start: int, stop: int) -> LayerOutput:
        """Queries start .. stop - 1 only."""
        return LayerOutput(
            logits=self.logits[:, start:stop],
            boxes=self.boxes[:, start:stop],
            queries=self.queries[:, start:stop],
        )


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What a forward pass says of every query; masks are made from it on demand.

    Attributes:
        layers: predictions of the Q learned queries after every decoder layer, last one last.
        extra: predictions of the extra queries after every decoder layer; empty without them.
        encoder: the Q encoder proposals that became reference boxes. Their masks come from the content
            queries and `model.mask_embed`, as released.
        tokens: predictions of *all* S encoder tokens, in training only.
        usable: (B, S) bool, tokens that are image and may propose.
        labels: (B, N, C) encoded labels.
        label_mask: (B, N) bool.
        pyramid: the encoded image.
        features: backbone maps at strides 4, 8, 16, 32.
    """

    layers: Sequence[LayerOutput]
    extra: Sequence[LayerOutput] = field(default=())
    encoder: LayerOutput
    tokens: LayerOutput | None
    usable: Tensor
    labels: Tensor
    label_mask: Tensor
    pyramid: Pyramid
    features: Sequence[Tensor]

    @property
    def logits(self) -> Tensor:
        """(B, Q, N) label logits of the last layer."""
        return self.layers[-1].logits

    @property
    def boxes(self) -> Tensor:
        """(B, Q, 4) boxes of the last layer, (cx, cy, w, h) in [0, 1] of the image without padding."""
        return self.layers[-1].boxes


@dataclass(frozen=True, kw_only=True)
class DetectorOutput(Predictions):
    """Predictions with the features of their masks.

    Attributes:
        mask_features: (B, M, H / 4, W / 4).
    """

    mask_features: Tensor
