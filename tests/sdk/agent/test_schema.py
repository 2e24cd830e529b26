from __future__ import annotations

import datetime
import ipaddress
import json
import random
import uuid
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import (
    UUID1,
    UUID4,
    AnyUrl,
    AwareDatetime,
    Base64Str,
    BaseModel,
    DirectoryPath,
    Field,
    FutureDate,
    FutureDatetime,
    IPvAnyAddress,
    Json,
    NaiveDatetime,
    PastDate,
    PastDatetime,
    TypeAdapter,
    create_model,
)

from visionllm_sdk.agent.choices import as_function
from visionllm_sdk.agent.functions import Function, arguments_grammar
from visionllm_sdk.agent.grammar import Grammar
from visionllm_sdk.agent.limits import Leaf, fits, leaves_of
from visionllm_sdk.agent.schema import schema_grammar
from visionllm_sdk.errors import ConfigError, InputError


def written(grammar: Grammar, dice: random.Random, room: int = 240) -> str:
    """A random text of a grammar, bytes drawn one by one, finished within `room` bytes."""
    data = bytearray()
    while True:
        options = [
            byte
            for byte in range(256)
            if (rest := grammar.step(byte)) is not None and rest.shortest < room - len(data)
        ]
        if grammar.ends and (not options or dice.random() < 0.3):
            return data.decode()
        byte = dice.choice(options)
        data.append(byte)
        grammar = grammar.step(byte) or grammar


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Part(BaseModel):
    kind: Colour
    count: Annotated[int, Field(gt=-3, lt=1000)] = 3


class Everything(BaseModel):
    text: str
    short: Annotated[str, Field(min_length=2, max_length=4)]
    code: Annotated[str, Field(pattern=r"^[A-Z]{2}-\d{2}$")]
    share: float = Field(ge=0, le=1)
    tiny: float = Field(gt=0.12, lt=0.13)
    even: int = Field(multiple_of=2, ge=10, le=20)
    maybe: int | None = None
    mode: Literal["a", "b", 3]
    parts: list[Part] = Field(min_length=1, max_length=2)
    pair: tuple[int, str]
    scores: dict[str, float] = {}
    day: datetime.date
    flag: bool


@pytest.mark.parametrize(
    "kind",
    [
        Everything,
        Part,
        int,
        str,
        bool,
        None,
        Decimal,
        datetime.datetime,
        datetime.time,
        uuid.UUID,
        AnyUrl,
        list[list[int]],
        dict[str, bool],
        set[int],
        int | list[str],
        Annotated[float, Field(gt=3, lt=5, multiple_of=0.5)],
        Annotated[int, Field(lt=-7)],
        Annotated[list[int], Field(min_length=9, max_length=10)],
        Annotated[str, Field(pattern="^[A-Z]+$", min_length=5, max_length=6)],
        Annotated[str, Field(pattern="^(ab|c)*[0-9]{2,}$", min_length=3, max_length=7)],
        Annotated[str, Field(pattern=r"^[^\w]x[^\s\d]$")],
        Annotated[set[Literal["a", "b", "c", "d"]], Field(min_length=3)],
        Annotated[set[Literal["a", "b", "c", "d"]], Field(max_length=2)],
        set[bool],
    ],
    ids=str,
)
def test_whatever_is_written_validates(kind: Any) -> None:
    adapter = TypeAdapter(kind)
    grammar = schema_grammar(adapter.json_schema())
    dice = random.Random(0)
    for _ in range(6):
        adapter.validate_json(written(grammar, dice))


@pytest.mark.parametrize(
    "kind",
    [UUID1, UUID4, NaiveDatetime, AwareDatetime, FutureDate, PastDate, FutureDatetime, PastDatetime,
     ipaddress.IPv6Address, ipaddress.IPv6Network, ipaddress.IPv4Network, IPvAnyAddress, Base64Str,
     Json, Json[list[str]], DirectoryPath | None],
    ids=str,
)  # fmt: skip
def test_whatever_is_written_into_a_form_validates(kind: Any) -> None:
    form = create_model("Form", x=(kind, ...))
    schema = as_function(form)["function"]["parameters"]
    # What was said is passed over where it is of another kind.
    for said in ([], ["Anna", "2024-05-03", "1"]):
        for seed in range(4):
            grammar = schema_grammar(schema, offer=lambda leaf, said=said: said)  # type: ignore[misc]
            form.model_validate_json(written(grammar, random.Random(seed)))


def test_what_must_be_there_is_only_taken(tmp_path: Path) -> None:
    schema = as_function(create_model("Form", x=(DirectoryPath, ...)))["function"]["parameters"]
    assert schema_grammar(schema, offer=lambda leaf: [str(tmp_path)]).accepts(f'{{"x": "{tmp_path}"}}')
    with pytest.raises(InputError, match=r"the field 'x' .*directory-path.*Say it in the request"):
        schema_grammar(schema, offer=lambda leaf: ["Anna"])


def test_errors_name_the_field() -> None:
    part = {"type": "object", "properties": {"b": {"type": "string", "pattern": "(?=a)"}}}
    with pytest.raises(ConfigError, match=r"^field a: field b: the pattern"):
        schema_grammar({"type": "object", "properties": {"a": part}})


def test_absent_fields_are_left_out_or_null() -> None:
    schema = Findings.model_json_schema() | {"required": ["colour"]}
    grammar = schema_grammar(schema, absent=[(name,) for name in Findings.model_fields])
    assert written(grammar, random.Random(0)) == '{"colour": null}'


class Branch(BaseModel):
    name: Annotated[str, Field(max_length=3)]
    children: list[Branch] = []


class Endless(BaseModel):
    inner: Endless


def test_recursion_ends() -> None:
    grammar = schema_grammar(Branch.model_json_schema())
    Branch.model_validate_json(written(grammar, random.Random(1), room=90))
    name, inner = '"name": "a"', ""
    for _ in range(2):  # once within itself
        inner = f'{{{name}, "children": [{inner}]}}'
    assert grammar.accepts(inner)
    assert not grammar.accepts(f'{{{name}, "children": [{inner}]}}')
    with pytest.raises(ConfigError, match="no text of bounded depth"):
        schema_grammar(Endless.model_json_schema())


def test_optional_fields_may_be_left_out_and_others_not() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": 2}, "c": {"const": 3}},
        "required": ["b"],
    }
    grammar = schema_grammar(schema)
    texts = ['{"b": 2}', '{"a": 1, "b": 2}', '{"b": 2, "c": 3}', '{"a": 1, "b": 2, "c": 3}', "{}", '{"a": 1}']
    assert [grammar.accepts(text) for text in texts] == [True, True, True, True, False, False]


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "object", "patternProperties": {"a": {}}},
        {"not": {"type": "string"}},
        {"type": "object", "required": ["a"]},
        {"type": "colour"},
        {"$ref": "#/$defs/Nothing"},
        {"type": "integer", "minimum": 5, "maximum": 4},
        {"type": "integer", "minimum": 5, "maximum": 9, "multipleOf": 11},
        {"type": "object", "maxProperties": 1},
        {"type": "string", "pattern": "^[a-z]{3}$", "maxLength": 2},
        {"type": "array", "uniqueItems": True, "minItems": 2, "items": {"type": "string"}},
        {"type": "array", "items": [{"type": "string"}]},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"type": "string", "pattern": r"^\p{L}+$"},
    ],
)
def test_what_cannot_be_written_is_an_error_and_no_wrong_text(schema: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        schema_grammar(schema)


def test_parts_of_a_schema_hold_together() -> None:
    parts = [{"properties": {name: {"const": 1}}, "required": [name]} for name in "ab"]
    both = schema_grammar({"type": "object", "properties": {}, "allOf": parts})
    assert [both.accepts(text) for text in ('{"a": 1, "b": 1}', '{"b": 1, "a": 1}', '{"a": 1}')].count(
        True
    ) == 1
    assert not both.accepts('{"a": 1}')
    assert not both.accepts('{"b": 1}')
    kinds = [{"properties": {"kind": {"const": kind}}, "required": ["kind"]} for kind in "xy"]
    either = schema_grammar({"properties": {"c": {"const": 2}}, "required": ["c"], "oneOf": kinds})
    assert either.accepts('{"c": 2, "kind": "y"}')
    assert not either.accepts('{"kind": "y"}')
    bounded = schema_grammar({"allOf": [{"type": "integer", "minimum": 1}, {"minimum": 5, "maximum": 6}]})
    assert [bounded.accepts(text) for text in "1456"] == [False, False, True, True]
    chosen = schema_grammar({"allOf": [{"enum": ["a", "b"]}, {"enum": ["b", "c"]}]})
    assert [chosen.accepts(f'"{text}"') for text in "abc"] == [False, True, False]
    assert schema_grammar({"properties": {"a": True}}).accepts("{}")


def test_formats_keep_their_length() -> None:
    grammar = schema_grammar({"type": "string", "format": "email", "minLength": 11, "maxLength": 12})
    texts = [json.loads(written(grammar, random.Random(seed))) for seed in range(6)]
    assert all(11 <= len(text) <= 12 and fits(text, {"format": "email"}) for text in texts)


def test_sets_are_choices_in_their_order() -> None:
    letters = {"type": "array", "uniqueItems": True, "items": {"enum": ["a", "b", "c"]}, "minItems": 2}
    grammar = schema_grammar(letters)
    assert all(map(grammar.accepts, ('["a", "b"]', '["a", "c"]', '["b", "c"]', '["a", "b", "c"]')))
    assert not any(map(grammar.accepts, ('["a", "a"]', '["c"]', "[]", '["a", "b", "c", "c"]')))
    offered = schema_grammar(letters | {"minItems": 0}, offer=lambda leaf: ["c"])
    assert offered.accepts('["c"]')
    assert not offered.accepts('["a"]')


def test_offers_are_taken_where_they_fit() -> None:
    schema = {
        "type": "object",
        "properties": {
            "n": {"type": "integer", "maximum": 5},
            "s": {"type": "string", "maxLength": 4},
            "e": {"enum": ["one", "two"]},
            "b": {"type": "boolean"},
        },
        "required": ["n", "s", "e", "b"],
    }
    offers: dict[str, list[Any]] = {"n": [9, 3], "s": ["too long", 'a"b'], "e": ["two"], "b": [True]}
    grammar = schema_grammar(schema, offer=lambda leaf: offers[leaf.path[0]])
    text = written(grammar, random.Random(0))
    assert json.loads(text) == {"n": 3, "s": 'a"b', "e": "two", "b": True}


def test_offers_that_do_not_fit_leave_the_schema() -> None:
    grammar = schema_grammar(
        {"type": "integer", "minimum": 1, "maximum": 2}, offer=lambda leaf: [7, "x", True, None]
    )
    assert [grammar.accepts(text) for text in ("1", "2", "7", "true")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("value", "schema", "verdict"),
    [
        (3, {"type": "integer", "exclusiveMinimum": 2}, True),
        (2, {"type": "integer", "exclusiveMinimum": 2}, False),
        (2.5, {"type": "integer"}, False),
        (0.1, {"type": "number", "exclusiveMaximum": 0.1}, False),
        (10**9, {"type": "integer"}, True),
        ("ab", {"pattern": "^a"}, True),
        ("ba", {"pattern": "^a"}, False),
        ("2024-02-30", {"format": "date"}, False),
        ("2024-02-29", {"format": "date"}, True),
        ("20240501", {"format": "date"}, False),
        ("2024-W18-3", {"format": "date"}, False),
        ("20240501", {"format": "date-time"}, False),
        ("20240501T101500", {"format": "date-time"}, False),
        ("2024-05-01T10:15:00Z", {"format": "date-time"}, True),
        ("10", {"format": "time"}, False),
        ("10:15", {"format": "time"}, True),
        ("Anna", {"pattern": r"^\p{L}+$"}, False),
        (10**400, {"type": "integer"}, False),
        ("shape", {"const": "shape"}, True),
        ("pentagon", {"const": "shape"}, False),
        ("anything", {"format": "colour"}, True),
        (True, {"type": "integer"}, False),
        (True, {"type": "boolean"}, True),
        ("red", {"enum": ["red", None]}, True),
        ("green", {"enum": ["red", None]}, False),
        ("john.doe@example.com", {"format": "email"}, True),
        ("j+o-h_n%7@mail.my-site.co.uk", {"format": "email"}, True),
        ("John Doe", {"format": "email"}, False),
        ("john..doe@example.com", {"format": "email"}, False),
        ("john@example", {"format": "email"}, False),
        ("john@-example.com", {"format": "email"}, False),
        ("255.255.255.0", {"format": "ipv4"}, True),
        ("256.1.1.1", {"format": "ipv4"}, False),
        ("P1DT2H", {"format": "duration"}, True),
        ("PT", {"format": "duration"}, False),
        ("p@ss word", {"format": "password"}, True),
    ],
)
def test_fits(value: Any, schema: dict[str, Any], verdict: bool) -> None:
    assert fits(value, schema) is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("https://www.python.org/about", True),
        ("http://localhost:8080/a?b=%20c#d", True),
        ("ftp://user:word@example.com/file.txt", True),
        ("mailto:john.doe@example.com", True),
        ("www.python.org", False),
        ("Python: the page", False),
        ("https://", False),
        ("https://exa mple.com", False),
        ("https://example.com:99999", False),
    ],
)
def test_addresses(text: str, verdict: bool) -> None:
    assert fits(text, {"format": "uri"}) is verdict
    if verdict:
        TypeAdapter(AnyUrl).validate_python(text)


class Place(BaseModel):
    row: int = 0
    name: str | None = None


class Findings(BaseModel):
    hearts: int = 0
    colour: str | None = None
    shade: Literal["light", "dark"] | None = None
    shown: bool | None = None
    place: Place | None = None
    note: str = ""


def test_what_is_known_is_neither_left_out_nor_null() -> None:
    values: dict[tuple[str, ...], Any] = {
        ("hearts",): 4,
        ("colour",): "red",
        ("shade",): "dark",
        ("shown",): False,
        ("place", "row"): 2,
    }

    def offer(leaf: Leaf) -> list[Any]:
        return [values[leaf.path]] if leaf.path in values else []

    grammar = schema_grammar(Findings.model_json_schema(), offer=offer, known=values)
    dice = random.Random(0)
    for _ in range(6):
        found = Findings.model_validate_json(written(grammar, dice))
        assert (found.hearts, found.colour, found.shade, found.shown) == (4, "red", "dark", False)
        assert found.place is not None
        assert found.place.row == 2
    known = '"hearts": 4, "colour": "red", "shade": "dark", "shown": false, "place": {"row": 2}'
    assert grammar.accepts(f"{{{known}}}")
    assert grammar.accepts(f'{{{known}, "note": "x"}}')


def test_answers_from_the_image_are_the_only_arguments_where_they_fit() -> None:
    class Look(BaseModel):
        hearts: int = Field(default=0, le=9, description="How many hearts are there?")
        colour: str | None = Field(default=None, description="What colour is the heart?")

    function = Function(name="look", parameters=Look.model_json_schema())

    def grammar(hearts: int) -> Grammar:
        answers: dict[tuple[str, ...], Any] = {("hearts",): hearts, ("colour",): "red"}
        return arguments_grammar(function, "Look.", answers=answers, copy=True)

    assert written(grammar(4), random.Random(0)) == '{"hearts": 4, "colour": "red"}'
    assert grammar(4).shortest == len('{"hearts": 4, "colour": "red"}')
    assert grammar(12).accepts('{"colour": "red"}')  # an answer that does not fit is no answer


def test_what_is_known_of_a_recursion_does_not_make_it_endless() -> None:
    schema = Branch.model_json_schema()
    assert schema_grammar(schema, known=[("name",)]).accepts('{"name": "a"}')
    chain: dict[str, Any] = {"type": "object", "properties": {"n": {"type": "integer"}}}
    chain["properties"]["next"] = {"anyOf": [{"$ref": "#/$defs/Chain"}, {"type": "null"}]}
    schema = {"$defs": {"Chain": chain}, "$ref": "#/$defs/Chain"}
    paths = [leaf.path for leaf in leaves_of(schema)]
    text = written(schema_grammar(schema, offer=lambda leaf: [1], known=paths), random.Random(0))
    assert json.loads(text)["next"]["n"] == 1


def test_leaves() -> None:
    paths = [leaf.path for leaf in leaves_of(Everything.model_json_schema())]
    assert ("text",) in paths
    assert ("maybe",) in paths  # an optional number is one
    assert ("parts",) in paths  # as a whole, and nothing of what is inside
    assert not any(path[0] == "parts" and len(path) > 1 for path in paths)
    nested = {"properties": {"a": {"properties": {"b": {"type": "string"}}}}}
    assert leaves_of(nested) == [Leaf(path=("a", "b"), schema={"type": "string"})]
