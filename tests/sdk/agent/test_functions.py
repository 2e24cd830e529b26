"""Forms in which programs give tools, choices and formats, and what the arguments take from a request."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from typing import Any, Literal

import pytest
from langchain_core.tools import StructuredTool
from pydantic import AwareDatetime, BaseModel, NaiveDatetime, RootModel, create_model
from typing_extensions import TypedDict

from visionllm_sdk.agent.choices import answer_format, as_function, function_of, named_choice
from visionllm_sdk.agent.functions import arguments_grammar, questions_of
from visionllm_sdk.agent.moments import days_in, moments_in, times_in
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


def send_mail(to: str, subject: str, body: str) -> None:
    """Send a mail."""


def get_weather(city: str, unit: Literal["celsius", "fahrenheit"] = "celsius", days: int = 1) -> None:
    """Get the weather in a city."""


def book_flight(origin: str, destination: str, day: datetime.date) -> None:
    """Book a flight."""


def convert(amount: float, source: Literal["EUR", "USD"], target: Literal["EUR", "USD"]) -> None:
    """Convert money."""


def schedule(
    title: str, start: datetime.datetime, end: datetime.datetime, attendees: list[str] | None = None
) -> None:
    """Schedule a meeting."""


def make_list(name: str, items: list[str]) -> None:
    """Make a list."""


def search_hotels(city: str, stars: int, guests: int = 2, price: float | None = None) -> None:
    """Search hotels."""


@pytest.mark.parametrize(
    ("tool", "request_text", "arguments"),
    [
        (send_mail, 'send "hello" to bob@x.org', {"to": "bob@x.org", "subject": "", "body": "hello"}),
        (send_mail, 'mail ann@b.org "Lunch", "See you"',
         {"to": "ann@b.org", "subject": "Lunch", "body": "See you"}),
        (send_mail, 'mail ann@b.org with body "See you" and subject "Lunch"',
         {"to": "ann@b.org", "subject": "Lunch", "body": "See you"}),
        (get_weather, "weather in Berlin in fahrenheit", {"city": "Berlin", "unit": "fahrenheit"}),
        (get_weather, "the weather in Oslo for 3 days", {"city": "Oslo", "days": 3}),
        (book_flight, "Book a flight to Paris from Rome on May 3rd, 2024",
         {"origin": "Rome", "destination": "Paris", "day": "2024-05-03"}),
        (convert, "Convert 1,500 USD to EUR", {"amount": 1500, "source": "USD", "target": "EUR"}),
        (schedule, "Schedule 'Plan' on 2024-05-03 from 14:30 to 3 pm with Anna and Bob",
         {"title": "Plan", "start": "2024-05-03T14:30:00", "end": "2024-05-03T15:00:00",
          "attendees": ["Anna", "Bob"]}),
        (make_list, "make a list 'food' with items 'milk' and 'eggs'",
         {"name": "food", "items": ["milk", "eggs"]}),
        (make_list, "make a list named food with milk, eggs and bread",
         {"name": "food", "items": ["milk", "eggs", "bread"]}),
        (search_hotels, "Search hotels in Rome for 3 guests, 4 stars",
         {"city": "Rome", "stars": 4, "guests": 3}),
    ],
)  # fmt: skip
def test_every_place_of_a_request_fills_one_field(
    tool: Any, request_text: str, arguments: dict[str, Any]
) -> None:
    function = function_of(as_function(tool)["function"])
    grammar = arguments_grammar(function, request_text, answers={}, copy=True)
    text = json.dumps(arguments)
    assert grammar.accepts(text)
    assert grammar.shortest == len(text)  # and nothing shorter, such as one without an optional field
    first, *_, last = arguments.values()
    assert not grammar.accepts(text.replace(json.dumps(first), json.dumps(last)))


def test_without_copying_nothing_is_taken() -> None:
    function = function_of(as_function(get_weather)["function"])
    grammar = arguments_grammar(function, "weather in Berlin", answers={}, copy=False)
    assert grammar.accepts('{"city": "Rome", "unit": "celsius"}')


@pytest.mark.parametrize(
    ("form", "text", "value"),
    [
        (datetime.datetime, "the meeting is on 2024-05-03 at 14:30", "2024-05-03T14:30:00"),
        (datetime.datetime, "at 9:05 am on 3 May 2024", "2024-05-03T09:05:00"),
        (datetime.datetime, "on 2024-05-03", "2024-05-03T00:00:00"),
        (datetime.datetime, "2024-05-03T14:30:00+02:00", "2024-05-03T14:30:00+02:00"),
        (NaiveDatetime, "2024-05-03 14:30 UTC", "2024-05-03T14:30:00"),
        (AwareDatetime, "2024-05-03 14:30", "2024-05-03T14:30:00Z"),
    ],
)
def test_moments_are_taken_from_the_request(form: Any, text: str, value: str) -> None:
    function = function_of(as_function(create_model("Meeting", when=(form, ...)))["function"])
    grammar = arguments_grammar(function, text, answers={}, copy=True)
    assert grammar.accepts(f'{{"when": "{value}"}}')
    assert not grammar.accepts('{"when": "2012-12-12T12:12:12Z"}')


def test_days_and_times() -> None:
    days = "2024-05-03, the 3rd of May 2024, May 3, 2024, 3.5.2024, not 2024-02-31, 5/3/2024 or v2024-05-03"
    assert [span.value for span in days_in(days)] == ["2024-05-03"] * 4
    times = "14:30, 2 pm, 12:05 a.m., 9:00:07Z, not 25:00, 13 pm, 1:2:3:4 or 12"
    assert [span.value for span in times_in(times)] == ["14:30:00", "14:00:00", "00:05:00", "09:00:07Z"]
    assert moments_in("at 14:30") == []


def test_a_bare_value_has_no_name() -> None:
    function = answer_format(RootModel[list[int]])
    assert function is not None
    assert questions_of(function.parameters, "Count.", all_fields=True) == []


@pytest.mark.parametrize("text", ["in word to ", '"a" ', "2024-05-03 14:30 ", "'", "a.b@", "1 "])
def test_long_requests_take_no_time(text: str) -> None:
    function = function_of(as_function(schedule)["function"])
    start = time.monotonic()
    arguments_grammar(function, text * 5000, answers={}, copy=True)
    assert time.monotonic() - start < 5


def test_what_stands_behind_a_colon_is_taken_whole() -> None:
    def save_note(text: str) -> None:
        """Save a note."""

    function = function_of(as_function(save_note)["function"])
    grammar = arguments_grammar(function, "Save a note: buy milk and eggs", answers={}, copy=True)
    assert grammar.walk(b'{"text": "buy milk and eggs"}') is not None
    assert grammar.walk(b'{"text": "milk') is None


@pytest.mark.parametrize(
    ("request_", "written"),
    [
        (
            "Book a table for 4 people at Luigi's at 7 pm",
            '{"place": "Luigi\'s", "people": 4, "time": "7 pm"}',
        ),
        ('tell Ann "call me"', None),
    ],
)
def test_places_and_switches(request_: str, written: str | None) -> None:
    def book_table(place: str, people: int, time: str, outside: bool = False) -> None:
        """Book a table."""

    def send_message(recipient: str, message: str) -> None:
        """Send a message."""

    wanted = written or '{"recipient": "Ann", "message": "call me"}'
    function = function_of(as_function(book_table if written else send_message)["function"])
    grammar = arguments_grammar(function, request_, answers={}, copy=True)
    assert grammar.walk(wanted.encode()) is not None
    assert written is None or grammar.walk(wanted[:-1].encode() + b', "outside"') is None
