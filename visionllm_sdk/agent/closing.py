"""The turn after the tools have run: the model answers from what they reported, and from nothing else.

The embedded model learnt to read "TOOL: 2 red circles, no star." and to say "I found 2 red circles, no star."
or "2" or "yes", as the question wants it. Here it does so under a grammar in which every number, place and
name stands as it was reported: the sentence cannot say what no tool said. What cannot be read that way
- answers, results of other people's tools, errors - is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from langchain_core.messages.tool import ToolCall

from visionllm_sdk.agent.grammar import Grammar, Literal, choice, row
from visionllm_sdk.agent.review import as_run

__all__ = ["Report", "closing_grammar", "merged_report", "passed_on", "report_of"]

_COUNTED: Final = re.compile(r"(no|\d{1,6}) ([^,;:.!?\n]{1,200})")
_PLACED: Final = re.compile(
    r"([^,;:.!?()\n]{1,200}) (?:at|in) the ((?:top |bottom )?(?:left|right)|top|bottom|center)"
    r"(?: \([a-z ]{1,20}(?:, [a-z ]{1,20}){0,2}\))?"
)
_NEXT: Final = re.compile(r", (?![a-z ,]*\))")
_NOTHING: Final = ("", "null", "None")
_MAX_TEXT: Final = 600  # characters of a report that are written under a grammar


class Report(NamedTuple):
    """What a tool has reported.

    Attributes:
        text: as the tool wrote it.
        about: the image that was looked at; the call itself where it names none.
    """

    text: str
    about: str = ""


def report_of(text: str, call: ToolCall) -> Report:
    """The report that answers a call; of a tool that said nothing, that it did so."""
    call, text = as_run(call, text)
    text = f"{call['name']} reported nothing." if text.strip() in _NOTHING else text
    image = call["args"].get("image")
    return Report(text, image if isinstance(image, str) else repr((call["name"], call["args"])))


def merged_report(reports: Sequence[Report]) -> str:
    """What the tools reported as one line: findings in one list, as the model was taught, then the rest."""
    findings, others = _sorted(reports)
    listed = [f"{', '.join(one.text for one in findings)}."] if findings else []
    return " ".join([*listed, *others])


def passed_on(reports: Sequence[Report]) -> str:
    """What the tools reported, word for word."""
    texts = [text for report in reports if (text := report.text.strip())]
    return ("\n" if any("\n" in text for text in texts) else " ").join(texts)


def closing_grammar(reports: Sequence[Report], *, short: bool = True) -> Grammar | None:
    """Answers from reports; None if they say nothing.

    A `Literal` stands for reports that hold no findings: they are to be passed on.

    Args:
        reports: in their order.
        short: the request may have been a question that wants a word or a number; one word does not answer it
            for several images.
    """
    findings, others = _sorted(reports)
    parts: list[Grammar] = []
    if findings:
        told = row(
            Literal("I found "), *_listed([one.text.partition(" (")[0] for one in findings]), Literal(".")
        )
        alone = len({one.about for one in findings}) == 1
        answers = _short_answers([one.text for one in findings]) if short and alone else []
        parts.append(choice([told, *(Literal(answer) for answer in answers)]) if answers else told)
    if others:
        parts.append(Literal(" ".join([*([""] if findings else []), *map(_bounded, others)])))
    return row(*parts) if parts else None


def _bounded(text: str) -> str:
    return text if len(text) <= _MAX_TEXT else f"{text[: _MAX_TEXT - 1].rstrip()}…"


def _listed(items: Sequence[str]) -> list[Grammar]:
    parts: list[Grammar] = []
    for number, item in enumerate(items):
        parts += [choice([Literal(", "), Literal(" and ")])] if number else []
        parts.append(Literal(item))
    return parts


def _short_answers(findings: Sequence[str]) -> list[str]:
    """What a question may be answered with in a word: a verdict, a number, a place, a thing."""
    answers = ["yes", "no"]
    for finding in findings:
        if counted := _COUNTED.fullmatch(finding):
            answers.append("0" if counted[1] == "no" else counted[1])
        elif placed := _PLACED.fullmatch(finding):
            answers += [placed[1], placed[2]]
    return list(dict.fromkeys(answers))


def _sorted(reports: Sequence[Report]) -> tuple[list[Report], list[str]]:
    """Findings, each once about the same thing, and texts that are something else, one line each."""
    findings: list[Report] = []
    others: list[str] = []
    for report in reports:
        text = " ".join(report.text.split())
        items = _NEXT.split(text.removesuffix("."))
        found = text.endswith(".") and len(text) <= _MAX_TEXT
        if found and all(_COUNTED.fullmatch(item) or _PLACED.fullmatch(item) for item in items):
            findings += [Report(item, report.about) for item in items]
        elif text:
            others.append(text)
    return list(dict.fromkeys(findings)), others
