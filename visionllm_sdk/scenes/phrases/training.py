"""What training asks with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from visionllm_sdk.scenes.phrases.training_questions import QUESTIONS
from visionllm_sdk.scenes.phrases.training_requests import REQUESTS
from visionllm_sdk.scenes.phrases.training_talk import TALK

TRAINING: Final[Mapping[str, tuple[str, ...]]] = {**REQUESTS, **QUESTIONS, **TALK}
"""By kind of request; in this order, which vocabularies follow."""
