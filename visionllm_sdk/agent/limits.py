"""What a JSON schema says of its values: its parts put together, its leaves, and the limits of each."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeAlias

from visionllm_sdk.agent.patterns import has_format
from visionllm_sdk.errors import ConfigError

__all__ = [
    "DEFINITION", "DEPTH", "MAX_TEXT", "NESTED", "WHEN", "Leaf", "Schema", "bounds_of", "fits", "joined",
    "leaves_of", "resolved",
]  # fmt: skip

Schema: TypeAlias = Mapping[str, Any]

DEPTH: Final = 8
"""Levels of a schema that are followed."""
MAX_TEXT: Final = 200
"""Characters of a text that sets no limit."""
WHEN: Final = "x-when"
"""Keyword of this SDK: a day or a time is `past` or `future`."""
NESTED: Final = 2
"""How often a definition is followed on one way through a schema that refers to itself."""
DEFINITION: Final = "x-definition"
"""Keyword of this SDK: the name under which a resolved schema was defined."""
_LARGEST: Final = 10**6


@dataclass(frozen=True, kw_only=True)
class Leaf:
    """A text, a number, a choice, a yes-or-no or a list of a schema.

    Attributes:
        path: names and positions that lead to it.
        schema: what is allowed.
        required: it must stand.
    """

    path: tuple[str, ...]
    schema: Schema
    required: bool = False


def leaves_of(schema: Schema) -> list[Leaf]:
    """The leaves of an object's fields and of the objects in them.

    An array is one, with the schema of its items resolved; those inside of it are left out.
    """
    definitions = schema.get("$defs", schema.get("definitions", {}))

    def plain(part: Schema) -> dict[str, Any]:
        part = resolved(part, definitions)
        for word in ("anyOf", "oneOf"):
            some = [resolved(one, definitions) for one in part.get(word, ()) if one.get("type") != "null"]
            if len(some) == 1:  # optional
                part = {**{key: value for key, value in part.items() if key != word}, **some[0]}
        return part

    def walk(part: Schema, path: tuple[str, ...], within: tuple[str, ...], needed: bool) -> list[Leaf]:
        part = plain(part)
        name = part.pop(DEFINITION, None)
        if within.count(name) >= NESTED:
            return []
        within = (*within, name) if name else within
        if part.get("type") == "array":
            items = plain(part.get("items") or {})
            fields = {name: plain(one) for name, one in items.get("properties", {}).items()}
            part = {**part, "items": {**items, "properties": fields} if fields else items}
            return [Leaf(path=path, schema=part, required=needed)]
        if len(path) > DEPTH:
            return []
        if "properties" in part:
            inner, due = part["properties"].items(), part.get("required", ()) if needed else ()
            return [leaf for name, one in inner for leaf in walk(one, (*path, name), within, name in due)]
        is_leaf = "enum" in part or part.get("type") in ("string", "integer", "number", "boolean")
        return [Leaf(path=path, schema=part, required=needed)] if is_leaf else []

    return walk(schema, (), (), True)


def resolved(schema: Any, definitions: Mapping[str, Any]) -> dict[str, Any]:
    """The schema with its reference and its `allOf` parts merged into it; `true` allows everything.

    It keeps the name of a definition as `DEFINITION`.

    Raises:
        ConfigError: something that is no schema, or a reference to a definition that is not there.
    """
    if schema is True:
        return {}
    if not isinstance(schema, Mapping):
        raise ConfigError(
            "a part of the schema is no schema",
            value=schema,
            limit="an object, or true where anything may stand",
        )
    merged = dict(schema)
    for _ in range(DEPTH):
        if "$ref" in merged:
            name = str(merged.pop("$ref")).rpartition("/")[2]
            if name not in definitions:
                raise ConfigError("the schema refers to a definition that it lacks", value=name)
            merged = {**joined(definitions[name], merged), DEFINITION: name}
        elif "allOf" in merged:
            for part in merged.pop("allOf"):
                merged = joined(resolved(part, definitions), merged)
        else:
            break
    return merged


_HIGHEST: Final = ("minimum", "exclusiveMinimum", "minLength", "minItems")
_LOWEST: Final = ("maximum", "exclusiveMaximum", "maxLength", "maxItems")


def joined(first: Schema, second: Schema) -> dict[str, Any]:
    """What fulfils both schemas; of words that say nothing about values, those of the second."""
    merged = {**first, **second}
    for word in (word for word in first if word in second):
        one, other = first[word], second[word]
        if word in _HIGHEST:
            merged[word] = max(one, other)
        elif word in _LOWEST:
            merged[word] = min(one, other)
        elif word == "required":
            merged[word] = list(dict.fromkeys((*one, *other)))
        elif word == "enum":
            merged[word] = [value for value in one if value in other]
        elif word == "properties":
            shared = {name: {"allOf": [one[name], other[name]]} for name in one if name in other}
            merged[word] = {**one, **other, **shared}
        elif word == "allOf":
            merged[word] = [*one, *other]
    return merged


def fits(value: Any, schema: Schema) -> bool:
    """Whether a value keeps the limits of a leaf; of a list its length is judged."""
    if "const" in schema:
        return bool(value == schema["const"])
    if "enum" in schema:
        return value in schema["enum"]
    if isinstance(value, bool):
        return schema.get("type") == "boolean"
    if isinstance(value, list):
        return bool(schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)))
    if isinstance(value, str):
        long_enough = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", MAX_TEXT)
        matches = _matches(schema.get("pattern", ""), value)
        right = has_format(value, schema.get("format", ""))
        return long_enough and matches and right and _in_time(value, schema)
    low, high, step = bounds_of(schema, value=True)
    whole = schema.get("type") != "integer" or Fraction(value).denominator == 1
    return whole and low <= Fraction(value) <= high and (not step or Fraction(value) % step == 0)


def _in_time(value: str, schema: Schema) -> bool:
    """Whether a day or a time is on the side of now on which it must be."""
    if WHEN not in schema:
        return True
    moment = datetime.datetime.fromisoformat(value)
    zone = moment.tzinfo or datetime.datetime.now().astimezone().tzinfo
    now = datetime.datetime.now(zone).replace(tzinfo=moment.tzinfo)
    if schema.get("format") == "date":
        now = datetime.datetime.combine(now.date(), datetime.time())
    return moment > now if schema[WHEN] == "future" else moment < now


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:  # in the syntax of another language; whether it can be written by is told elsewhere
        return False


def bounds_of(schema: Schema, *, value: bool = False) -> tuple[Fraction, Fraction, Fraction]:
    """Inclusive bounds and step of a number; exclusive bounds move by a millionth, or by 1 for integers."""
    unit = Fraction(1) if schema.get("type") == "integer" else Fraction(1, 10**6)
    largest = 10**15 if value else _LARGEST
    low, high = schema.get("minimum"), schema.get("maximum")
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    lows = [Fraction(str(low))] if low is not None else []
    lows += [_beyond(above, unit, 1)] if above is not None else []
    highs = [Fraction(str(high))] if high is not None else []
    highs += [_beyond(below, unit, -1)] if below is not None else []
    first = (
        max(lows) if lows else min(Fraction(-largest), *highs, Fraction(0)) if highs else Fraction(-largest)
    )
    last = min(highs) if highs else max(Fraction(largest), first + largest)
    return first, last, Fraction(str(schema.get("multipleOf", 0)))


def _beyond(bound: float, unit: Fraction, direction: int) -> Fraction:
    """The nearest multiple of `unit` strictly beyond an exclusive bound."""
    exact = Fraction(str(bound)) / unit
    return (math.floor(exact) + 1 if direction > 0 else math.ceil(exact) - 1) * unit
