"""The measured skills, by name."""

from __future__ import annotations

from typing import Final

from visionllm_sdk.evaluation.skills.base import Skill
from visionllm_sdk.evaluation.skills.caption import CaptionSkill
from visionllm_sdk.evaluation.skills.counting import CountingSkill
from visionllm_sdk.evaluation.skills.detection import DetectionSkill
from visionllm_sdk.evaluation.skills.drawing import EditingSkill, GenerationSkill
from visionllm_sdk.evaluation.skills.grounding import GroundingSkill
from visionllm_sdk.evaluation.skills.pointed_routing import PointedRoutingSkill
from visionllm_sdk.evaluation.skills.posing import PoseSkill
from visionllm_sdk.evaluation.skills.regions import (
    DescriptionSkill,
    InContextSkill,
    InteractiveSkill,
    RecognitionSkill,
)
from visionllm_sdk.evaluation.skills.routing import RoutingSkill
from visionllm_sdk.evaluation.skills.segmentation import SegmentationSkill
from visionllm_sdk.evaluation.skills.vqa import VqaSkill

SKILLS: Final[dict[str, type[Skill]]] = {
    skill.name: skill
    for skill in (
        DetectionSkill,
        SegmentationSkill,
        GroundingSkill,
        CountingSkill,
        VqaSkill,
        CaptionSkill,
        RoutingSkill,
        PoseSkill,
        PointedRoutingSkill,
        RecognitionSkill,
        DescriptionSkill,
        InteractiveSkill,
        InContextSkill,
        GenerationSkill,
        EditingSkill,
    )
}

__all__ = ["SKILLS", "Skill"]
