"""Procedurally drawn scenes with exact ground truth: for training, tests, demonstrations and evaluation.

spec = sample_scene(7, options=SceneOptions(canvas=(128, 128)))
drawn = render(spec)
known = truth(spec, drawn)
"""

from __future__ import annotations

from visionllm_sdk.scenes.options import SceneOptions
from visionllm_sdk.scenes.render import Rendered, render
from visionllm_sdk.scenes.sample import sample_object, sample_scene
from visionllm_sdk.scenes.seeds import HELD_OUT_SEEDS, held_out_seeds, training_seed, training_seeds
from visionllm_sdk.scenes.spec import SceneSpec
from visionllm_sdk.scenes.truth import SceneTruth, truth

__all__ = [
    "HELD_OUT_SEEDS",
    "Rendered",
    "SceneOptions",
    "SceneSpec",
    "SceneTruth",
    "held_out_seeds",
    "render",
    "sample_object",
    "sample_scene",
    "training_seed",
    "training_seeds",
    "truth",
]
