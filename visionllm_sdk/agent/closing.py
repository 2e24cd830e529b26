"""The turn after the tools have run: the model answers from what they reported, and from nothing else.

The embedded model learnt to read "TOOL: 2 red circles, no star." and to say "I found 2 red circles, no star."
or "2" or "yes", as the question wants it. Here it does so under a grammar in which every number, place and
name stands as it was reported: the sentence cannot say what no tool said. What cannot be read that way
- answers, results of other people's tools, errors - is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import ToolMessage

from visionllm_sdk.agent.grammar import Grammar, Literal, choice, row

__all__ = ["closing_grammar", "merged_report", "texts_of"]

_COUNTED: Final = re.compile(r"(no|\d{1,6}) ([^,;:.!?\n]{1,200})")
_PLACED: Final = re.compile(
    r"([^,;:.!?()\n]{1,200}) (?:at|in) the ((?:top |bottom )?(?:left|right)|top|bottom|center)"
    r"(?: \([a-z ]{1,20}(?:, [a-z ]{1,20}){0,2}\))?"
)
_NEXT: Final = re.compile(r", (?![a-z ,]*\))")
_MAX_TEXT: Final = 600


def merged_report(texts: Sequence[str]) -> str:
    """What the tools reported as one text: findings in one list, as the model was taught, then the rest."""
    findings, others = _sorted(texts)
    listed = [f"{', '.join(findings)}."] if findings else []
    return " ".join([*listed, *others])


def closing_grammar(texts: Sequence[str], *, short: bool = True) -> Grammar | None:
    """Answers from reports, a `Literal` if there is but one; None if the reports say nothing.

    Args:
        texts: the reports, see `texts_of`.
        short: the request may have been a question that wants a word or a number.
    """
    findings, others = _sorted(texts)
    parts: list[Grammar] = []
    if findings:
        told = row(Literal("I found "), *_listed([one.partition(" (")[0] for one in findings]), Literal("."))
        answers = _short_answers(findings) if short else []
        parts.append(choice([told, *(Literal(answer) for answer in answers)]) if answers else told)
    if others:
        parts.append(Literal(" ".join([*([""] if findings else []), *others])))
    return row(*parts) if parts else None


def texts_of(reports: Sequence[ToolMessage]) -> list[str]:
    """The texts of tool messages, one line each, of bounded length."""
    return [" ".join(report.text.split())[:_MAX_TEXT] for report in reports]


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


def _sorted(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Findings, each once, and texts that are something else."""
    findings: list[str] = []
    others: list[str] = []
    for text in texts:
        items = _NEXT.split(text.removesuffix("."))
        if text.endswith(".") and all(_COUNTED.fullmatch(item) or _PLACED.fullmatch(item) for item in items):
            findings += items
        elif text:
            others.append(text)
    return list(dict.fromkeys(findings)), others
