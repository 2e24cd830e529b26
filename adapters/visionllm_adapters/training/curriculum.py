"""Every skill that can be taught from labelled pictures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from visionllm_adapters.training.drawing_lessons import EditLesson, GenerateLesson
from visionllm_adapters.training.lessons import (
    CaptionLesson,
    DetectLesson,
    GroundLesson,
    Lesson,
    PoseLesson,
    VqaLesson,
)
from visionllm_adapters.training.region_lessons import ClassifyLesson, DescribeLesson, SegmentRegionsLesson

LESSONS: Final[Mapping[str, type[Lesson]]] = {
    lesson.skill: lesson
    for lesson in (
        DetectLesson,
        GroundLesson,
        PoseLesson,
        VqaLesson,
        CaptionLesson,
        DescribeLesson,
        ClassifyLesson,
        SegmentRegionsLesson,
        GenerateLesson,
        EditLesson,
    )
}
"""By the name of the skill."""
