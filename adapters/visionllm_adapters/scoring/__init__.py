"""Evaluation on a user's own data: COCO AP, Acc@0.5 and cIoU, VQA accuracy, caption agreement."""

from __future__ import annotations

from visionllm_adapters.scoring.measures import MEASURES
from visionllm_adapters.scoring.run import evaluate
from visionllm_adapters.scoring.score import Score

__all__ = ["MEASURES", "Score", "evaluate"]
