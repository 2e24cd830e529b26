"""JSON schemas as grammars: whatever is written under one validates against the schema."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any, Final, TypeAlias

from visionllm_sdk.agent.grammar import (
    EMPTY,
    Characters,
    Escaped,
    Grammar,
    Literal,
    Number,
    choice,
    optional,
    repeat,
    row,
)
from visionllm_sdk.agent.limits import (
    DEFINITION,
    DEPTH,
    MAX_TEXT,
    NESTED,
    WHEN,
    Leaf,
    Schema,
    bounds_of,
    fits,
    joined,
    resolved,
)
from visionllm_sdk.agent.patterns import PLAIN, SAID_ONLY, made_up, pattern_grammar
from visionllm_sdk.errors import ConfigError, InputError

__all__ = ["schema_grammar"]

_MAX_ITEMS: Final = 8
_UNSUPPORTED: Final = (
    "not", "if", "then", "else", "patternProperties", "propertyNames", "contains", "dependentSchemas",
    "dependentRequired", "unevaluatedProperties", "minProperties", "maxProperties",
)  # fmt: skip


Offer: TypeAlias = Callable[[Leaf], Sequence[Any]]
"""Values that a leaf should be chosen from; none leaves everything that the schema allows."""


def _no_offer(_: Leaf) -> Sequence[Any]:
    return ()


def schema_grammar(
    schema: Schema,
    *,
    offer: Offer = _no_offer,
    known: Collection[tuple[str, ...]] = (),
    absent: Collection[tuple[str, ...]] = (),
) -> Grammar:
    """The JSON texts, on one line, that a schema allows.

    Args:
        schema: JSON schema of an object or a value, with its own `$defs`.
        offer: candidate values of leaves; those that do not fit the schema are passed over.
        known: paths of leaves whose values are known: they are neither left out nor null.
        absent: paths of leaves that have no value: where they need not stand, they are left out or null.

    Raises:
        ConfigError: a keyword that cannot be written by, or a schema that no finite text fulfils.
        InputError: a field names something that must be there already, such as a file, and none is offered.
    """
    builder = _Builder(schema.get("$defs", schema.get("definitions", {})), offer, known, absent)
    grammar = builder.value(schema, (), 0)
    if grammar is None and builder.unsaid:
        raise InputError(
            f"the field {'.'.join(builder.unsaid[0].path)!r} names what must be there, and none was said",
            value=builder.unsaid[0].schema.get("format"),
            remedy="Say it in the request, make the field optional, or let it be a plain text.",
        )
    if grammar is None:
        raise ConfigError(
            "no text of bounded depth fulfils the schema",
            value=dict(schema),
            limit=f"{DEPTH} levels",
            remedy="Give the recursion an end, such as an optional field.",
        )
    return grammar


class _Builder:
    def __init__(
        self,
        definitions: Mapping[str, Any],
        offer: Offer,
        known: Collection[tuple[str, ...]],
        absent: Collection[tuple[str, ...]],
    ) -> None:
        self.unsaid: list[Leaf] = []  # for which no text can be made up
        self._absent = frozenset(absent)
        self._within: list[str] = []  # definitions that are being followed
        self._definitions = definitions
        self._offer = offer
        self._filled = {path[:size] for path in known for size in range(len(path) + 1)}

    def value(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar | None:
        """Texts of one value; None if there is none of bounded depth."""
        if depth > DEPTH:
            return None
        schema = resolved(schema, self._definitions)
        name = schema.pop(DEFINITION, None)
        if name is None:
            return self._value(schema, path, depth)
        if self._within.count(name) >= NESTED:
            return None
        self._within.append(name)
        grammar = self._value(schema, path, depth)
        self._within.pop()
        return grammar

    def _value(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar | None:
        unsupported = [word for word in _UNSUPPORTED if word in schema]
        if unsupported:
            raise ConfigError(
                "the schema uses keywords that cannot be written by",
                value=unsupported,
                remedy="Leave them out, and check the value afterwards.",
            )
        if "const" in schema:
            return _literal(schema["const"])
        if "enum" in schema:
            options = self._options(schema, path)
            return choice([_literal(one) for one in options]) if options else None
        kinds = self._alternatives(schema)
        if len(kinds) > 1 or kinds[0] is not schema:
            options = [(kind, self.value(kind, path, depth + 1)) for kind in kinds]
            possible = [(kind.get("type"), option) for kind, option in options if option is not None]
            said = [option for name, option in possible if path not in self._filled or name != "null"]
            none = [option for name, option in possible if path in self._absent and name == "null"]
            left = none or said or [option for _, option in possible]
            return choice(left) if left else None
        return self._typed(schema, path, depth)

    def _options(self, schema: Schema, path: tuple[str, ...]) -> list[Any]:
        """The values of a choice that are offered; all where none is."""
        offered = self._offer(Leaf(path=path, schema=schema))
        return [one for one in schema["enum"] if one in offered] or list(schema["enum"])

    def _alternatives(self, schema: Schema) -> list[Schema]:
        for word in ("anyOf", "oneOf"):
            if word in schema:
                rest = {key: value for key, value in schema.items() if key != word}
                return [joined(rest, resolved(part, self._definitions)) for part in schema[word]]
        if isinstance(schema.get("type"), list):
            return [{**schema, "type": kind} for kind in schema["type"]]
        return [schema]

    def _typed(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar | None:
        kind = schema.get("type", "object" if "properties" in schema else "string")
        writers: dict[str, Callable[[Schema, tuple[str, ...], int], Grammar | None]] = {
            "object": self._object,
            "array": self._array,
            "string": self._text,
            "integer": self._number,
            "number": self._number,
            "boolean": self._truth,
            "null": lambda *_: Literal("null"),
        }
        if kind not in writers:
            raise ConfigError("the schema has an unknown type", value=kind, limit=", ".join(writers))
        return writers[kind](schema, path, depth)

    # -- texts and numbers ---------------------------------------------------------------------------------

    def _offered(self, schema: Schema, path: tuple[str, ...], kind: type) -> Grammar | None:
        values = [
            value
            for value in self._offer(Leaf(path=path, schema=schema))
            if isinstance(value, kind) and fits(value, schema)
        ]
        return choice([_literal(value) for value in dict.fromkeys(values)]) if values else None

    def _truth(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar:
        offered = [one for one in self._offer(Leaf(path=path, schema=schema)) if isinstance(one, bool)]
        return choice([_literal(one) for one in offered or (True, False)])

    def _text(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar | None:
        if schema.get("contentMediaType") == "application/json":
            value = self.value(schema.get("contentSchema", True), path, depth + 1)
            return None if value is None else row(Literal('"'), Escaped(value), Literal('"'))
        offered = self._offered(schema, path, str)
        if offered is not None:
            return offered
        low, high = schema.get("minLength", 0), schema.get("maxLength", MAX_TEXT)
        if schema.get("format") in SAID_ONLY:
            self.unsaid.append(Leaf(path=path, schema=schema))
            return None
        expression = schema.get("pattern") or made_up(schema.get("format", ""), schema.get(WHEN))
        if expression is None:
            inside: Grammar = Characters(low, min(high, max(low, MAX_TEXT)), PLAIN)
        else:
            inside = pattern_grammar(expression, low=low, high=schema.get("maxLength"))
        return row(Literal('"'), inside, Literal('"'))

    def _number(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar:
        kind = int if schema["type"] == "integer" else (int | float)
        offered = self._offered(schema, path, kind)  # type: ignore[arg-type]
        if offered is not None:
            return offered
        low, high, step = bounds_of(schema)
        most = 0 if schema["type"] == "integer" else max(2, _decimals(step))
        for decimals in (most, 4, 6) if most else (0,):
            options = [
                number for places in sorted({0, decimals}) if (number := _between(low, high, step, places))
            ]
            if options:
                return choice(options)
        raise ConfigError("the schema allows no number", value=dict(schema))

    # -- structures ----------------------------------------------------------------------------------------

    def _array(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar | None:
        for value in self._offer(Leaf(path=path, schema=schema)):
            if isinstance(value, list) and fits(value, schema):
                return _literal(value)
        head = [
            self.value(part, (*path, str(number)), depth + 1)
            for number, part in enumerate(schema.get("prefixItems", ()))
        ]
        if any(part is None for part in head):
            return None
        low = max(schema.get("minItems", 0) - len(head), 0)
        high = min(schema.get("maxItems", low + _MAX_ITEMS) - len(head), low + _MAX_ITEMS)
        if schema.get("uniqueItems") and not head:
            return self._set(schema, path, (low, high), depth)
        item = self.value(schema.get("items") or {}, (*path, "*"), depth + 1) if high > 0 else None
        if item is None and low:
            return None
        comma = Literal(", ")
        parts: list[Grammar] = []
        for number, part in enumerate(head):
            parts += [comma, part] if number else [part]  # type: ignore[list-item]
        if item is not None and head:
            parts += [repeat(row(comma, item), low, high)]
        elif item is not None:
            parts += [repeat(item, low, high, comma)]
        return row(Literal("["), *parts, Literal("]"))

    def _set(
        self, schema: Schema, path: tuple[str, ...], limits: tuple[int, int], depth: int
    ) -> Grammar | None:
        """Choices in their order, each at most once; of what is no choice one, which never repeats."""
        low, high = limits
        form = resolved(schema.get("items") or {}, self._definitions)
        if "enum" in form:
            options = self._options(form, (*path, "*"))
            options = options if len(options) >= low else list(form["enum"])
            if len(options) < low:
                return None
            return row(Literal("["), _chosen([_literal(one) for one in options], low, high), Literal("]"))
        if low > 1:
            raise ConfigError(
                "a set of free values cannot be written by",
                value=dict(schema),
                limit="sets of at least 0 or 1 values, or of choices",
                remedy="Leave out `minItems`, or make it a list.",
            )
        item = self.value(form, (*path, "*"), depth + 1)
        if item is None:
            return None if low else Literal("[]")
        return row(Literal("["), repeat(item, low, min(high, 1)), Literal("]"))

    def _object(self, schema: Schema, path: tuple[str, ...], depth: int) -> Grammar | None:
        required = set(schema.get("required", ()))
        fields: list[tuple[str, Grammar, bool]] = []
        for name, part in schema.get("properties", {}).items():
            if name not in required and (*path, name) in self._absent:
                continue
            try:
                value = self.value(part, (*path, name), depth + 1)
            except ConfigError as error:
                raise error.at(f"field {name}") from error
            if value is None and name in required:
                return None
            if value is not None:
                entry = row(Literal(json.dumps(name, ensure_ascii=False) + ": "), value)
                fields.append((name, entry, name in required or (*path, name) in self._filled))
        lacking = required - {name for name, _, _ in fields}
        if lacking:
            raise ConfigError("the schema requires fields that it does not describe", value=sorted(lacking))
        free = None
        if not fields and isinstance(schema.get("additionalProperties"), Mapping):
            value = self.value(schema["additionalProperties"], (*path, "*"), depth + 1)
            key = self._text({"minLength": 1, "maxLength": 40}, (*path, "*"), depth)
            free = None if value is None or key is None else optional(row(key, Literal(": "), value))
        return row(Literal("{"), free or _fields(fields), Literal("}"))


def _fields(fields: Sequence[tuple[str, Grammar, bool]]) -> Grammar:
    """The fields in their order; each optional one may be left out."""
    first: Grammar = EMPTY  # nothing has been written yet
    later: Grammar = EMPTY
    comma = Literal(", ")
    for _, entry, needed in reversed(fields):
        opening, going_on = row(entry, later), row(comma, entry, later)
        first = opening if needed else choice([opening, first])
        later = going_on if needed else choice([going_on, later])
    return first


def _chosen(options: Sequence[Grammar], low: int, high: int) -> Grammar:
    """`low` to `high` of the options in their order, with commas between them."""
    count = len(options)
    after: list[Grammar | None] = [EMPTY if low <= taken <= high else None for taken in range(count + 2)]
    for number in range(count - 1, -1, -1):  # what may follow from here on, by how many have been taken
        here = after[:]
        for taken in range(min(number, high) + 1):
            rest = after[taken + 1]
            if rest is not None and taken < high:
                entry = row(*([Literal(", ")] if taken else []), options[number], rest)
                skipped = after[taken]
                here[taken] = entry if skipped is None else choice([entry, skipped])
        after = here
    found = after[0]
    assert found is not None, "there are enough options"
    return found


def _literal(value: Any) -> Grammar:
    return Literal(json.dumps(value, ensure_ascii=False))


def _decimals(step: Fraction) -> int:
    return next((places for places in range(7) if step * 10**places % 1 == 0), 6)


def _between(low: Fraction, high: Fraction, step: Fraction, decimals: int) -> Grammar | None:
    """Numbers with so many decimals; None if there is none in the range."""
    unit = 10**decimals
    first, last = math.ceil(low * unit), math.floor(high * unit)
    multiple = step * unit if step else Fraction(1)
    if multiple % 1:
        return None
    number = Number(first, last, decimals=decimals, multiple=int(multiple))
    return number if number.walk(b"") is not None and first <= last and _has(first, last, multiple) else None


def _has(first: int, last: int, multiple: Fraction) -> bool:
    return last // multiple * multiple >= first
