from __future__ import annotations

from langchain_core.messages import ToolMessage

from visionllm_sdk.agent.closing import closing_grammar, merged_report, texts_of
from visionllm_sdk.agent.grammar import Literal


def test_findings_become_one_report() -> None:
    assert merged_report(["2 red circles, no star.", "1 dog.", "2 red circles, no star."]) == (
        "2 red circles, no star, 1 dog."
    )
    assert merged_report(["1 dog.", "It is sunny."]) == "1 dog. It is sunny."
    assert merged_report(["blue"]) == "blue"
    assert merged_report([""]) == ""


def test_the_closing_answer_says_what_was_found_and_nothing_else() -> None:
    grammar = closing_grammar(["2 red circles, no star."])
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
    grammar = closing_grammar([compared])
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
    assert isinstance(closing_grammar(["It's sunny."]), Literal)
    mixed = closing_grammar(["1 dog.", "It's sunny."])
    assert mixed is not None
    assert mixed.accepts("I found 1 dog. It's sunny.")
    assert closing_grammar([""]) is None


def test_long_reports_are_bounded() -> None:
    (text,) = texts_of([ToolMessage("word \n" * 5000, tool_call_id="1")])
    assert len(text) <= 600
    assert "\n" not in text


def test_poses_are_reported_and_no_question_is_answered() -> None:
    grammar = closing_grammar(["1 dog."], short=False)
    assert grammar is not None
    assert grammar.accepts("I found 1 dog.")
    assert not any(grammar.accepts(text) for text in ("yes", "no", "1"))
