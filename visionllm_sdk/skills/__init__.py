"""The typed methods: thin, and the only place of the core that knows the built-in skills by name."""

from __future__ import annotations

from visionllm_sdk.skills.arguments import ImageRules
from visionllm_sdk.skills.facade import VisionLLM
from visionllm_sdk.skills.history import PastTurn
from visionllm_sdk.skills.talk import CallDone, ReplyDone, TalkEvent, TextDelta

__all__ = ["CallDone", "ImageRules", "PastTurn", "ReplyDone", "TalkEvent", "TextDelta", "VisionLLM"]
