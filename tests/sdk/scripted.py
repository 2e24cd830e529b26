"""Makes a model with random weights write a given reply, so that everything behind its words can be tried."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from visionllm_sdk import VisionLLM
    from visionllm_sdk.generation import GenerationOptions


class Script:
    """A logits processor that lets one token through at every step.

    Args:
        vlm: the model.
        reply: what it shall write, control tokens spelt out.
    """

    def __init__(self, vlm: VisionLLM, reply: str) -> None:
        tokenizer = vlm.engine.model.tokenizer
        self._ids = [*tokenizer.encode_template(reply), tokenizer.eos_id]
        self._step = 0

    def __call__(self, ids: Tensor, scores: Tensor) -> Tensor:
        only = torch.full_like(scores, -torch.inf)
        only[:, self._ids[min(self._step, len(self._ids) - 1)]] = 0.0
        self._step += 1
        return only


def scripted(vlm: VisionLLM, reply: str) -> GenerationOptions:
    """Options under which the model writes `reply`."""
    from visionllm_sdk.generation import GenerationOptions

    return GenerationOptions(processors=(Script(vlm, reply),))
