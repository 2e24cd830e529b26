"""The JSON files of a checkpoint folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from visionllm_sdk.errors import CheckpointError, ConfigError, VisionLLMError

_T = TypeVar("_T")
_REMEDY = "Correct config.json."
_CLOSED = ConfigDict(extra="forbid")


def read_object(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None if there is no such file.

    Raises:
        CheckpointError: the file is not JSON, or holds something else than an object.
    """
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path.name} cannot be read as JSON: {error}", value=str(path), remedy="Download it again."
        ) from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path.name} does not hold a JSON object", value=str(path), remedy="Download it again."
        )
    return content


def made_of(kind: type[_T], section: Any, place: str) -> _T:
    """A dataclass made of the fields of a JSON object.

    Args:
        kind: the dataclass.
        section: the object.
        place: where in config.json it stands.

    Raises:
        ConfigError: no object, a field that is unknown, missing or of a wrong type, or a value that the
            dataclass refuses.
    """
    if not isinstance(section, Mapping):
        raise ConfigError(f"{place} is no JSON object", value=section, remedy=_REMEDY)
    own = {item.name: item for item in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(section) - set(own))
    if unknown:
        raise ConfigError(
            f"unknown field(s) in {place} of config.json",
            value=unknown,
            limit=", ".join(sorted(own)),
            remedy="Correct the spelling, or update this package.",
        )
    hints = get_type_hints(kind)
    with naming(place):
        return kind(
            **{name: value_of(hints[name], value, f"{place}.{name}") for name, value in section.items()}
        )


def value_of(kind: Any, value: Any, place: str) -> Any:
    """A JSON value as a Python type that is written in JSON so: a list as a tuple, a whole number as a float.

    Args:
        kind: the type, as in an annotation.
        value: what was read.
        place: where in config.json it stands.

    Raises:
        ConfigError: it is of another type.
    """
    try:
        return TypeAdapter(kind, config=_CLOSED).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join((place, *map(str, first["loc"])))
        raise ConfigError(
            f"{where} is of a wrong type", value=first["input"], limit=first["msg"], remedy=_REMEDY
        ) from error


@contextmanager
def naming(place: str) -> Iterator[None]:
    """The time in which something is made of a section, where libraries raise errors of many types.

    Args:
        place: the section of config.json.

    Raises:
        ConfigError: it cannot be made. Errors of this package pass.
    """
    try:
        yield
    except VisionLLMError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"{place} in config.json cannot be used: {said}", remedy=_REMEDY) from error
