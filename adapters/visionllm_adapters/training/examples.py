"""One thing to learn: a picture, a conversation about it, and what its routed calls should find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from PIL import Image

from visionllm_sdk.model.conversation import Turn
from visionllm_sdk.model.prompt import RegionPrompt

REPLAY: Final = "replay"
"""What replayed scenes are called in place of a skill."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A routed call of an answer, with the truth that its tool's loss takes.

    Attributes:
        token: routing token.
        labels: one for each super-link, in the order of the answer.
        truth: as the tool's `loss` wants it; None: the tool does not judge this call.
        with_masks: whether the truth has masks; calls with and without go through the loss apart.
    """

    token: str
    labels: tuple[str, ...]
    truth: Any
    with_masks: bool = False


@dataclass(frozen=True, kw_only=True)
class Example:
    """One training item.

    Attributes:
        skill: what it teaches, for the log.
        image: RGB; None for words alone. What the calls are about.
        before: pictures shown before it; region prompts lie in the first that is shown.
        turns: questions with their answers.
        calls: in the order of their routing tokens in the answers.
        regions: prompts in the order of their marks in the questions.
    """

    skill: str
    image: Image.Image | None
    turns: tuple[Turn, ...]
    calls: tuple[Call, ...] = ()
    regions: tuple[RegionPrompt, ...] = ()
    before: tuple[Image.Image, ...] = ()

    @property
    def shown(self) -> tuple[Image.Image, ...]:
        """All pictures, in the order of their places in the questions."""
        return self.before if self.image is None else (*self.before, self.image)
