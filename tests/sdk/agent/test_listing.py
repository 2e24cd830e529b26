"""Lists of things to be seen: which fields want one, and what a description gives them."""

from __future__ import annotations

from typing import Any

import pytest

from visionllm_sdk.agent.functions import Function, arguments_grammar, questions_of
from visionllm_sdk.agent.limits import leaves_of
from visionllm_sdk.agent.listing import image_list, things_in

EVERYTHING = ["large red circle", "orange star", "person", "large red circle"]
CAPTION = "A large red circle, an orange star, a person and a large red circle."
TEXTS = {"type": "array", "items": {"type": "string"}}


def thing(*required: str, **choices: list[str]) -> dict[str, Any]:
    """A list of objects with a shape and a colour."""
    fields: dict[str, Any] = {"shape": {"type": "string"}, "color": {"type": "string"}}
    fields |= {name: {"enum": values, "type": "string"} for name, values in choices.items()}
    return {"type": "array", "items": {"type": "object", "properties": fields, "required": list(required)}}


def listed(name: str, schema: dict[str, Any], caption: str = CAPTION) -> list[Any]:
    (leaf,) = leaves_of({"properties": {name: schema}})
    listing = image_list(name, leaf.schema)
    assert listing is not None
    return listing.values(caption)


def test_things_of_a_description() -> None:
    assert [one.text for one in things_in(CAPTION)] == [
        "large red circle", "orange star", "person", "large red circle",
    ]  # fmt: skip
    first, star, person, _ = things_in(CAPTION)
    assert (first.kind, first.colour, first.size) == ("circle", "red", "large")
    assert (star.kind, star.colour, star.size) == ("star", "orange", None)
    assert (person.kind, person.colour, person.size) == ("person", None, None)


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("Nothing.", []),
        ("", []),
        ("a", []),
        ("the  of it", []),
        ("The image shows a brown dog on a lawn and there is one red ball next to it.", ["dog", "ball"]),
        ("An orange.", ["orange"]),
    ],
)
def test_parts_that_name_no_single_thing_are_passed_over(text: str, kinds: list[str]) -> None:
    assert [one.kind for one in things_in(text)] == kinds


@pytest.mark.parametrize(
    ("name", "description", "values"),
    [
        ("objects", None, EVERYTHING),
        ("visibleObjects", None, EVERYTHING),
        ("x", "All objects that can be seen in the image.", EVERYTHING),
        ("x", "List of the things in the picture", EVERYTHING),
        ("shapes", None, ["circle", "star", "person", "circle"]),
        ("x", "kinds of objects in the scene", ["circle", "star", "person", "circle"]),
        ("colors", None, ["red", "orange"]),
        ("x", "Colours of the shapes in the image", ["red", "orange"]),
        ("sizes", None, ["large"]),
    ],
)  # fmt: skip
def test_texts(name: str, description: str | None, values: list[str]) -> None:
    told = {} if description is None else {"description": description}
    assert listed(name, TEXTS | told) == values


@pytest.mark.parametrize("name", ["tags", "steps", "people", "cities", "names", "regions"])
def test_other_lists_are_left_to_the_request(name: str) -> None:
    assert image_list(name, TEXTS) is None


def test_lists_of_what_no_description_tells_are_left_to_the_request() -> None:
    for items in ({"type": "integer"}, {"type": "object", "properties": {"x": {"type": "number"}}}, {}):
        assert image_list("objects", {"type": "array", "items": items}) is None
    boxed = thing("shape", "box")
    boxed["items"]["properties"]["box"] = {"type": "array"}
    assert image_list("objects", boxed) is None


def test_objects_with_fields_of_their_own() -> None:
    red = {"shape": "circle", "color": "red"}
    orange = {"shape": "star", "color": "orange"}
    assert listed("objects", thing("shape", "color")) == [
        red, orange, {"shape": "person", "color": "unknown"}, red,
    ]  # fmt: skip
    assert listed("objects", thing("shape"))[2] == {"shape": "person"}
    assert listed("objects", thing("shape", "color", color=["Red", "Orange"])) == [
        {"shape": "circle", "color": "Red"},
        {"shape": "star", "color": "Orange"},
        {"shape": "circle", "color": "Red"},
    ]  # fmt: skip
    assert listed("objects", thing("color", shape=["star"])) == [
        {"color": "red"}, {"shape": "star", "color": "orange"}, {"color": "unknown"}, {"color": "red"},
    ]  # fmt: skip


def test_what_is_fixed_stays_and_chooses() -> None:
    fixed = thing("shape", "type")
    fixed["items"]["properties"]["type"] = {"type": "string", "const": "figure"}
    assert listed("objects", fixed)[0] == {"type": "figure", "shape": "circle", "color": "red"}
    assert listed("shapes", {"type": "array", "items": {"type": "string", "const": "star"}}) == ["star"]


def test_a_name_does_not_repeat_what_has_a_field() -> None:
    fields = {"name": {"type": "string"}, "colour": {"type": "string"}}
    schema = {"type": "array", "items": {"type": "object", "properties": fields, "required": ["name"]}}
    assert listed("things", schema)[:2] == [
        {"name": "large circle", "colour": "red"}, {"name": "star", "colour": "orange"},
    ]  # fmt: skip


def test_limits_of_the_schema_are_kept() -> None:
    assert listed("objects", TEXTS | {"maxItems": 1}) == ["large red circle"]
    assert listed("objects", TEXTS | {"uniqueItems": True}) == ["large red circle", "orange star", "person"]
    choice = {"type": "array", "items": {"type": "string", "enum": ["star", "circle"]}}
    assert listed("shapes", choice) == ["circle", "star", "circle"]
    short = {"type": "array", "items": {"type": "string", "maxLength": 4}}
    assert listed("shapes", short) == ["star"]


def test_forms_ask_and_write_the_list_once_for_all_fields() -> None:
    optional = {"anyOf": [{"$ref": "#/$defs/Things"}, {"type": "null"}], "default": None}
    form = {
        "type": "object",
        "properties": {"objects": optional, "colors": TEXTS, "tags": TEXTS},
        "$defs": {"Things": thing("shape"), "Unused": {}},
    }
    questions = questions_of(form, "Fill in the form.", all_fields=True)
    assert [question.path for question in questions] == [("objects",), ("colors",)]
    assert {question.text for question in questions} == {"describe the image"}
    assert not questions_of(form, "Fill in the form.", all_fields=False)
    answers = {question.path: question.value("A red ring.") for question in questions}
    form["required"] = ["objects", "colors"]
    grammar = arguments_grammar(Function(name="f", parameters=form), "", answers=answers, copy=True)
    written = grammar.walk(b'{"objects": [{"shape": "ring", "color": "red"}], "colors": ["red"]}')
    assert written is not None
    assert written.ends
    assert grammar.walk(b'{"objects": null') is None
    assert grammar.walk(b'{"objects": [{"shape": "star"') is None


def test_a_list_that_is_too_short_for_the_schema_is_not_written() -> None:
    form = {"type": "object", "properties": {"objects": TEXTS | {"minItems": 2}}, "required": ["objects"]}
    grammar = arguments_grammar(
        Function(name="f", parameters=form), "two words", answers={("objects",): ["ring"]}, copy=False
    )
    assert grammar.walk(b'{"objects": ["ring"]}') is None
    assert grammar.walk(b'{"objects": ["ring", "a"]}') is not None
