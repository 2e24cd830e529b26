"""Forms in which programs give tools, choices and formats, and what the arguments take from a request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.tools import StructuredTool
from pydantic import AwareDatetime, BaseModel, NaiveDatetime, RootModel
from typing_extensions import TypedDict

from visionllm_sdk.agent.choices import answer_format, as_function, named_choice
from visionllm_sdk.errors import InputError


class Tree(BaseModel):
    name: str
    branches: list[Tree] = []


class Times(BaseModel):
    here: NaiveDatetime
    there: AwareDatetime


class Town(TypedDict):
    """A town."""

    name: str


@pytest.mark.parametrize(
    ("choice", "name"),
    [
        (None, "auto"),
        (False, "auto"),
        (True, "any"),
        ("required", "any"),
        ("none", "none"),
        ("add", "add"),
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "any"),
        ({"type": "none"}, "none"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
        ({"type": "function", "name": "add"}, "add"),
        ({"type": "tool", "name": "add"}, "add"),
        ({"name": "add"}, "add"),
    ],
)
def test_choices_in_all_forms(choice: Any, name: str) -> None:
    assert named_choice(choice, ["add"]) == name


@pytest.mark.parametrize(
    "choice",
    ["take", ["add"], 1, {}, {"type": "tool"}, {"type": "function", "function": "add"}, {"name": ["add"]},
     {"type": ["auto"]}, {"type": "tool", "name": "take"}],
)  # fmt: skip
def test_other_choices_are_refused_with_the_known_names(choice: Any) -> None:
    with pytest.raises(InputError, match=r"tool_choice names no bound tool.*auto.*add"):
        named_choice(choice, ["add"])


@pytest.mark.parametrize(
    "form",
    [
        Town,
        {"title": "Town", "type": "object", "properties": {"name": {"type": "string"}}},
        {"type": "json_schema", "json_schema": {"schema": {"properties": {"name": {"type": "string"}}}}},
        {"type": "json_schema", "name": "x", "schema": {"properties": {"name": {"type": "string"}}}},
        Tree,
    ],
)
def test_formats_of_answers(form: Any) -> None:
    function = answer_format(form)
    assert function is not None
    assert "name" in function.parameters["properties"]


def test_a_root_model_is_the_answer_itself_and_one_argument_of_a_call() -> None:
    Counts = RootModel[list[int]]
    answer = answer_format(Counts)
    assert answer is not None
    assert answer.parameters == {"type": "array", "items": {"type": "integer"}}
    arguments = as_function(Counts)["function"]["parameters"]
    assert arguments == {"type": "object", "properties": {"root": answer.parameters}, "required": ["root"]}


@pytest.mark.parametrize("form", [None, {"type": "text"}])
def test_free_answers(form: Any) -> None:
    assert answer_format(form) is None


@pytest.mark.parametrize("form", [{"type": "json_object"}, {"type": "json_schema"}, {}, "json", int])
def test_formats_without_a_schema_are_refused(form: Any) -> None:
    with pytest.raises(InputError, match="gives no schema"):
        answer_format(form)


def test_forms_keep_what_refers_to_itself() -> None:
    def plant(tree: Tree) -> None:
        """Plant it."""

    tool = StructuredTool.from_function(plant)
    for made in (as_function(Tree), as_function(tool), as_function(as_function(Tree))):
        parameters = made["function"]["parameters"]
        assert parameters["$defs"]["Tree"]["properties"]["branches"]["items"] == {"$ref": "#/$defs/Tree"}
    assert as_function(tool)["function"]["name"] == "plant"


def test_forms_say_whether_times_have_a_zone() -> None:
    fields = as_function(Times)["function"]["parameters"]["properties"]
    assert [fields[name]["format"] for name in ("here", "there")] == ["local-date-time", "zoned-date-time"]


def test_a_type_without_a_schema_is_named() -> None:
    class Calls(BaseModel):
        count: int
        back: Callable[[int], int]

    with pytest.raises(InputError, match=r"the field 'back' of Calls .*Callable.*another type"):
        as_function(Calls)
