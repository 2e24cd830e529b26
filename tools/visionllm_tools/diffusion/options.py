"""Typed arguments that generation and editing share, and what a caller can watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from PIL import Image
from pydantic import ConfigDict, Field, ValidationError, field_validator
from pydantic.json_schema import SkipJsonSchema

from visionllm_sdk._result import as_input_error
from visionllm_sdk.errors import InputError, LimitError
from visionllm_sdk.model.decoding import CancelToken
from visionllm_sdk.tool import ToolOptions

MAX_STEPS: Final = 1000
MAX_GUIDANCE: Final = 100.0
MAX_WORDS: Final = 300
MAX_CHARACTERS: Final = 3000
MAX_SEED: Final = 2**63 - 1
_SHOWN: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a picture is.

    Attributes:
        step: finished denoising steps, from 1.
        steps: all of them; some samplers take a step or two more than were asked for.
        draw: makes the preview.
    """

    step: int
    steps: int
    draw: Callable[[], Image.Image] = field(repr=False)

    @property
    def share(self) -> float:
        """Share of the work that is done, 0..1."""
        return self.step / self.steps

    def preview(self) -> Image.Image:
        """The picture as it looks now, RGB at the size at which it is made. Costs one decoding."""
        return self.draw()


Watch = Callable[[Progress], None]


class PictureOptions(ToolOptions):
    """Arguments of generation and editing.

    Attributes:
        prompt: the caption or instruction, for the record; None takes the words that led to the call.
        seed: fixes the noise; None draws one, which the result names.
        steps: denoising steps; None takes the checkpoint's default, as below.
        guidance: how closely to follow the words; 1 does not exaggerate at all.
        sampler: name of the sampler.
        negative_prompt: what to stay away from.
        watch: is called after every step.
        cancel: stops the work after the current step.

    Raises:
        InputError: a value that cannot be used.
        LimitError: a prompt that is too long.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True)

    prompt: str | None = None
    seed: int | None = Field(default=None, ge=0, le=MAX_SEED)
    steps: int | None = Field(default=None, ge=1, le=MAX_STEPS)
    guidance: float | None = Field(default=None, ge=0, le=MAX_GUIDANCE, allow_inf_nan=False)
    sampler: str | None = None
    negative_prompt: str | None = None
    watch: SkipJsonSchema[Watch | None] = Field(default=None, exclude=True, repr=False)
    cancel: SkipJsonSchema[CancelToken | None] = Field(default=None, exclude=True, repr=False)

    def __init__(self, **data: Any) -> None:
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise as_input_error(error) from error

    @field_validator("prompt", "negative_prompt")
    @classmethod
    def _readable(cls, text: str | None) -> str | None:
        return None if text is None else check_prompt(text)


def check_prompt(text: str) -> str:
    """A caption or an instruction, with blanks squeezed.

    Raises:
        InputError: no words.
        LimitError: more words than a super-link can carry.
    """
    words = text.split()
    squeezed = " ".join(words)
    if not words:
        raise InputError(
            "the words for a picture are empty", value=text, remedy="Say what to draw or to change."
        )
    if len(words) > MAX_WORDS or len(squeezed) > MAX_CHARACTERS:
        raise LimitError(
            "too many words for a picture",
            value=f"{len(words)} words, {len(squeezed)} characters: {squeezed[:_SHOWN]!r}...",
            limit=f"{MAX_WORDS} words and {MAX_CHARACTERS} characters",
            remedy="Describe the picture more briefly.",
        )
    return squeezed
