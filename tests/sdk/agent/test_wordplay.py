from __future__ import annotations

import pytest

from visionllm_sdk.agent.wordplay import name_words, numbers_in, phrases_in, relevance

WEATHER = {
    "name": "get_weather",
    "description": "Get the weather at a location.",
    "parameters": {"properties": {"location": {"type": "string"}}},
}


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("magic_function(3)", [3]),
        ("between -2 and 3.5, not v2 or 1.2.3", [-2, 3.5]),
        ("1 + 2", [1, 2]),
        ("no number", []),
        ("Pay 1,500 to 'Anna'", [1500]),
        ("$1,250.50 or 1,234,567", [1250.5, 1234567]),
        ("1,2,3 and 12,34", [1, 2, 3, 12, 34]),
        ("run 5km in 30min", [5, 30]),
        ("the 2nd, 3D, 640x480, img_1_0123", []),
        ("1" * 400, []),
        ("-0." + "1" * 400, []),
    ],
)
def test_numbers(text: str, numbers: list[float]) -> None:
    assert numbers_in(text) == numbers


def test_a_comma_parts_numbers_where_more_are_wanted() -> None:
    assert numbers_in("Crop at 100,200.", wanted=2) == [100, 200]
    assert numbers_in("Crop at 100,200.", wanted=1) == [100200]
    assert numbers_in("Pay 1,500 or 2,000.", wanted=3) == [1500, 2000]


def test_quoted_texts_go_first() -> None:
    assert phrases_in("Create a customer named '你好啊集団' (Hello Group)") == ["你好啊集団"]
    assert phrases_in('say "one" and “two”, it\'s all') == ["one", "two"]


def test_phrases_keep_names_together() -> None:
    found = phrases_in("What is the weather in San Francisco, CA?", avoid=name_words("get_weather"))
    assert found[0] == "San Francisco, CA"
    assert "weather in San" not in found
    assert phrases_in("a" * 30 + " " + "b " * 5000)  # long texts do no harm
    assert len(phrases_in("word " * 2000)) <= 300
    assert phrases_in("") == []


@pytest.mark.parametrize(
    ("request_text", "spoken"),
    [
        ("What is the weather in Rome?", True),
        ("Use get_weather, please", True),
        ("find the red circle", False),
        ("Hello!", False),
    ],
)
def test_relevance(request_text: str, spoken: bool) -> None:
    assert (relevance(request_text, WEATHER) >= 2) is spoken


def test_the_exact_name_counts_most() -> None:
    other = {"name": "weather_at_location", "description": "Weather at a location.", "parameters": {}}
    assert relevance("call get_weather for the location", WEATHER) > relevance(
        "call get_weather for the location", other
    )


def test_the_order_is_no_phrase() -> None:
    assert phrases_in("Set the price of apples to 3.5", avoid=["set_price", "price"])[0] == "apples to 3.5"
    assert "Set" not in phrases_in("Set the price of apples")
    assert phrases_in("search") == ["search"]
