"""One hierarchy of errors.

Every error says what is wrong, the value that was given, the limit it hit, and what to do about it; the four
parts are also attributes, so that a server or a command line can pass them on as data.

    VisionLLMError
      InputError (ValueError)            something the caller passed
        ImageError                       an image that cannot be used
        LimitError                       too much or too large
        RegionError                      a box, point, scribble or mask that does not fit the image
        DataError                        an item of a data set
        ArtifactError                    data that cannot be turned back into a typed result
      ConfigError (ValueError)           a configuration that contradicts itself
      CheckpointError                    weights or tokenizer files
      ToolError                          a routed tool: registration, arguments, decoder
      GenerationError                    decoding of a reply
        GenerationCancelled              stopped by the caller
      HandleError (LookupError)          an image or super-link handle that is unknown, foreign or expired
      AdapterError                       a LoRA adapter
      RemoteError                        a server's answer
      MissingExtraError (ImportError)    an optional dependency is not installed
"""

from __future__ import annotations

import reprlib
from typing import Any, Final, Self

__all__ = [
    "AdapterError",
    "ArtifactError",
    "CheckpointError",
    "ConfigError",
    "DataError",
    "GenerationCancelled",
    "GenerationError",
    "HandleError",
    "ImageError",
    "InputError",
    "LimitError",
    "MissingExtraError",
    "RegionError",
    "RemoteError",
    "ToolError",
    "VisionLLMError",
]


class _Unset:
    """Marks a part that was not given; `None` is a value that a caller may really have passed."""

    def __repr__(self) -> str:
        return "<unset>"

    def __reduce__(self) -> str:
        return "_UNSET"


_UNSET: Final = _Unset()

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 120
_shorten.maxlist = _shorten.maxtuple = _shorten.maxset = _shorten.maxdict = 8


class VisionLLMError(Exception):
    """Base of every error that this SDK raises on purpose.

    Args:
        problem: what is wrong, as one clause without a full stop.
        value: what was given (shortened in the text).
        limit: what is allowed.
        remedy: what the caller can do, as one sentence.
    """

    def __init__(
        self, problem: str, *, value: Any = _UNSET, limit: Any = _UNSET, remedy: str | None = None
    ) -> None:
        self.problem = problem
        self.remedy = remedy
        self._value = value
        self._limit = limit
        super().__init__(self._text())

    @property
    def value(self) -> Any:
        """What was given; None when the error is not about one value."""
        return None if self._value is _UNSET else self._value

    @property
    def limit(self) -> Any:
        """What is allowed; None when there is no limit to name."""
        return None if self._limit is _UNSET else self._limit

    def at(self, place: str) -> Self:
        """The same error, with the place in front of what is wrong: ``image 3: ...``."""
        error = type(self).__new__(type(self))
        VisionLLMError.__init__(
            error, f"{place}: {self.problem}", value=self._value, limit=self._limit, remedy=self.remedy
        )
        return error

    def as_dict(self) -> dict[str, str | None]:
        """The error as JSON-safe data: type, message, problem, value, limit, remedy."""
        return {
            "type": type(self).__name__,
            "message": str(self),
            "problem": self.problem,
            "value": None if self._value is _UNSET else _say(self._value),
            "limit": None if self._limit is _UNSET else _say(self._limit),
            "remedy": self.remedy,
        }

    def _text(self) -> str:
        facts = []
        if self._value is not _UNSET:
            facts.append(f"got {_say(self._value)}")
        if self._limit is not _UNSET:
            facts.append(f"allowed: {_say(self._limit)}")
        text = self.problem.rstrip(".")
        if facts:
            text += f" ({'; '.join(facts)})"
        return f"{text}. {self.remedy}" if self.remedy else f"{text}."

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle by positional arguments; ours are keywords and must survive process borders.
        return _rebuild, (type(self), self.problem, self._value, self._limit, self.remedy)


def _rebuild(
    kind: type[VisionLLMError], problem: str, value: Any, limit: Any, remedy: str | None
) -> VisionLLMError:
    error = kind.__new__(kind)
    VisionLLMError.__init__(error, problem, value=value, limit=limit, remedy=remedy)
    return error


def _say(value: Any) -> str:
    """Strings given as a limit read as prose, everything else as a shortened repr."""
    return value if isinstance(value, str) and len(value) <= 120 else _shorten.repr(value)


class InputError(VisionLLMError, ValueError):
    """Something the caller passed cannot be used."""


class ImageError(InputError):
    """An image that is missing, broken, of an unsupported kind, or too large."""


class LimitError(InputError):
    """More than a stated limit: labels, tokens, calls, keypoints."""


class RegionError(InputError):
    """A region prompt that is empty, outside the image, or of another size."""


class DataError(InputError):
    """An item of a data set; the message names the item."""


class ArtifactError(InputError):
    """Data that cannot be turned back into a typed result."""


class ConfigError(VisionLLMError, ValueError):
    """A configuration that contradicts itself or asks for what does not exist."""


class CheckpointError(VisionLLMError):
    """A checkpoint that is absent, incomplete, of another model, or unsafe to read."""


class ToolError(VisionLLMError):
    """A routed tool that is unknown, wrongly registered, or failed."""


class GenerationError(VisionLLMError):
    """A reply that could not be generated."""


class GenerationCancelled(GenerationError):
    """The caller cancelled the request."""


class HandleError(VisionLLMError, LookupError):
    """A handle that is unknown here, belongs to another session, or has expired."""


class AdapterError(VisionLLMError):
    """A LoRA adapter that does not fit, is incomplete, or was changed."""


class RemoteError(VisionLLMError):
    """A server could not be reached or answered with an error."""


class MissingExtraError(VisionLLMError, ImportError):
    """An optional dependency is not installed; the message holds the exact install command."""

    def __init__(self, module: str, *, extra: str) -> None:
        super().__init__(
            f"this feature needs the optional package {module!r}",
            remedy=f'Install it with: pip install "visionllm-sdk[{extra}]"',
        )
        self.module = module
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild_missing, (self.module, self.extra)


def _rebuild_missing(module: str, extra: str) -> MissingExtraError:
    return MissingExtraError(module, extra=extra)
