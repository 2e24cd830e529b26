"""The base of every typed result: frozen, JSON-safe, tagged with its type."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from visionllm_sdk.errors import InputError, VisionLLMError

__all__ = ["Probability", "Result"]

Probability = Annotated[float, Field(ge=0, le=1)]

_FIXED = ("type", "frame")  # fields with one possible value: never given by position


class Result(BaseModel):
    """Base of the typed results.

    A result is frozen and holds only JSON-safe data, so that it survives a store or a wire; its `type`
    field names it there, and `visionllm_sdk.results.revive` turns the data back. Fields may also be given
    by position, in the order of their declaration.

    Raises:
        InputError: a field is missing, unknown, or holds what it may not.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def __init__(self, /, *args: Any, **data: Any) -> None:  # data may have a field of any name, `self` too
        names = [name for name in type(self).model_fields if name not in _FIXED]
        if len(args) > len(names):
            raise InputError(
                f"too many values for {type(self).__name__}",
                value=args,
                limit=f"at most {len(names)}: {names}",
            )
        by_place = dict(zip(names, args, strict=False))
        twice = sorted(set(by_place) & set(data))
        if twice:
            raise InputError(
                f"a field of {type(self).__name__} is given by position and by name",
                value=twice,
                remedy="Give it once.",
            )
        data.update(by_place)
        try:
            super().__init__(**data)
        except ValidationError as error:
            raise as_input_error(error) from error

    def __eq__(self, other: object) -> bool:
        # Equal data, equal result: an image attached for display does not count.
        return type(self) is type(other) and self.__dict__ == other.__dict__


def as_input_error(error: ValidationError) -> VisionLLMError:
    """The first fault that pydantic found, as an error of this SDK."""
    first = error.errors(include_url=False)[0]
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, VisionLLMError):
        return cause
    place = ".".join(str(part) for part in (error.title, *first["loc"]))
    return InputError(f"{place}: {first['msg']}", value=first["input"])
