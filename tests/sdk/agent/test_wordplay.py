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
    ],
)
def test_numbers(text: str, numbers: list[float]) -> None:
    assert numbers_in(text) == numbers


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
