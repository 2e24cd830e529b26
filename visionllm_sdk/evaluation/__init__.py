"""How well a model does on scenes it has never seen: figures per skill, against requirements.

report = run(VisionLLM.from_pretrained(), scenes=500)
report.skills["detection"].figures["box_ap50"]
"""

from __future__ import annotations

from visionllm_sdk.evaluation.bars import BARS, Bar
from visionllm_sdk.evaluation.predictor import Predictor, adapted
from visionllm_sdk.evaluation.report import BarResult, EvaluationReport, SkillReport
from visionllm_sdk.evaluation.runner import run
from visionllm_sdk.evaluation.samples import Sample, held_out_samples
from visionllm_sdk.evaluation.skills import SKILLS

__all__ = [
    "BARS",
    "SKILLS",
    "Bar",
    "BarResult",
    "EvaluationReport",
    "Predictor",
    "Sample",
    "SkillReport",
    "adapted",
    "held_out_samples",
    "run",
]
