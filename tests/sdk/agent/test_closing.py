from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages.tool import tool_call

from visionllm_sdk.agent.closing import Report, closing_grammar, merged_report, passed_on, report_of
from visionllm_sdk.agent.grammar import Literal


def reports(*texts: str) -> list[Report]:
    return [Report(text) for text in texts]


def test_findings_become_one_report() -> None:
    assert merged_report(reports("2 red circles, no star.", "1 dog.", "2 red circles, no star.")) == (
        "2 red circles, no star, 1 dog."
    )
    assert merged_report(reports("1 dog.", "It is sunny.")) == "1 dog. It is sunny."
    assert merged_report(reports("blue")) == "blue"
    assert merged_report(reports("")) == ""


@pytest.mark.parametrize(
    ("other", "same"),
    [
        ({"name": "detect", "args": {"labels": ["heart"], "image": "img_1"}}, True),
        ({"name": "count", "args": {"label": "heart", "image": "img_1"}}, True),
        ({"name": "detect", "args": {"labels": ["heart"], "image": "img_2"}}, False),
        ({"name": "people", "args": {"camera": "north"}}, False),
    ],
)
def test_findings_about_other_images_are_kept(other: dict[str, Any], same: bool) -> None:
    calls = [tool_call(name="detect", args={"labels": ["heart"], "image": "img_1"}, id="1")]
    calls += [tool_call(**other, id="2")]
    told = [report_of("4 hearts.", call) for call in calls]
    assert merged_report(told) == ("4 hearts." if same else "4 hearts, 4 hearts.")
    grammar = closing_grammar(told)
    assert grammar is not None
    assert grammar.accepts("I found 4 hearts.") is same
    assert grammar.accepts("I found 4 hearts and 4 hearts.") is not same
    assert grammar.accepts("4") is same  # one number does not answer for two images


def test_the_closing_answer_says_what_was_found_and_nothing_else() -> None:
    grammar = closing_grammar(reports("2 red circles, no star."))
    assert grammar is not None
    good = ["I found 2 red circles, no star.", "I found 2 red circles and no star.", "2", "0", "yes", "no"]
    bad = [
        "I found 3 red circles, no star.",
        "I found 2 red circles.",
        "I found no star, 2 red circles.",
        "3",
        "",
    ]
    assert all(grammar.accepts(text) for text in good)
    assert not any(grammar.accepts(text) for text in bad)


def test_places_are_answers_too() -> None:
    compared = "the red star at the top left, the dog in the center (left of, above, smaller)."
    grammar = closing_grammar(reports(compared))
    assert grammar is not None
    good = [
        "I found the red star at the top left, the dog in the center.",
        "top left",
        "center",
        "the dog",
        "yes",
    ]
    bad = ["bottom right", "smaller", f"I found {compared}"]
    assert all(grammar.accepts(text) for text in good)
    assert not any(grammar.accepts(text) for text in bad)


def test_other_reports_are_passed_on() -> None:
    assert isinstance(closing_grammar(reports("It's sunny.")), Literal)
    mixed = closing_grammar(reports("1 dog.", "It's sunny."))
    assert mixed is not None
    assert mixed.accepts("I found 1 dog. It's sunny.")
    assert closing_grammar(reports("")) is None


def test_reports_are_passed_on_whole() -> None:
    page = "First line.\n  - second\n" * 100
    told = reports(page, "", "It's sunny.")
    assert isinstance(closing_grammar(told), Literal)
    assert passed_on(told) == f"{page.strip()}\nIt's sunny."
    assert passed_on(reports("It's sunny. ", "It's late.")) == "It's sunny. It's late."
    assert passed_on(reports("", " ")) == ""


def test_what_is_cut_beside_findings_is_marked() -> None:
    grammar = closing_grammar(reports("1 dog.", "word \n" * 5000))
    assert grammar is not None
    assert grammar.shortest <= len("1 ") + 600 + 2  # the ellipsis has three bytes
    assert grammar.accepts(f"I found 1 dog. {'word ' * 119}word…")
    assert grammar.accepts(f"I found 1 dog. {'word ' * 120}") is False


def test_long_lists_of_findings_are_passed_on_whole() -> None:
    told = reports(f"{', '.join(f'{number} red circles' for number in range(100))}.")
    assert isinstance(closing_grammar(told), Literal)
    assert passed_on(told) == merged_report(told) == told[0].text


def test_poses_are_reported_and_no_question_is_answered() -> None:
    grammar = closing_grammar(reports("1 dog."), short=False)
    assert grammar is not None
    assert grammar.accepts("I found 1 dog.")
    assert not any(grammar.accepts(text) for text in ("yes", "no", "1"))


@pytest.mark.parametrize("text", ["", " ", "null", "None"])
def test_a_tool_that_says_nothing_is_named(text: str) -> None:
    told = [report_of(text, tool_call(name="send_mail", args={}, id="1"))]
    assert passed_on(told) == "send_mail reported nothing."
    assert isinstance(closing_grammar(told), Literal)
