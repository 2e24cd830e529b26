"""The turn after the tools have run: the model tells what they reported, and nothing else.

The embedded model learnt to turn "TOOL: 2 red circles, no star." into "I found 2 red circles, no star.", or
into "2" or "yes" if that was the question. Here it does so under a grammar: a sentence in which every finding
stands as it was reported, or a short answer of a closed set, so that it cannot say what no tool said. What
cannot be counted - answers, results of other people's tools, errors - is passed on as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from langchain_core.messages import ToolMessage

from visionllm_sdk.agent.grammar import Grammar, Literal, choice, row

__all__ = ["closing_grammar", "merged_report"]

_FINDING: Final = re.compile(r"(?:no|\d{1,6}) [^,;:.!?\n]{1,200}")
_PLACED: Final = re.compile(
    r"(?P<name>[^,;:.!?\n]{1,200}) (?:at|in) the (?P<place>[a-z ]{3,12}) \([\d ]{5,11}\)"
)
_LEADS: Final = ("I found ", "There is ", "There are ", "")
_MAX_TEXT: Final = 600


def merged_report(texts: Sequence[str]) -> str:
    """What the tools reported as one text: findings in one list, as the model was taught, then the rest."""
    findings, others = _sorted(texts)
    listed = [f"{', '.join(findings)}."] if findings else []
    return " ".join([*listed, *others])


def closing_grammar(texts: Sequence[str]) -> Grammar | None:
    """Sentences that tell the reports, a `Literal` if there is but one; None if they say nothing."""
    findings, others = _sorted(texts)
    parts: list[Grammar] = []
    if findings:
        parts.append(choice([Literal(lead) for lead in _LEADS]))
        for number, finding in enumerate(findings):
            parts += [choice([Literal(", "), Literal(" and ")])] if number else []
            parts.append(Literal(finding.partition(" (")[0]))
        parts.append(Literal("."))
    if others:
        parts.append(Literal(" ".join([*([""] if findings else []), *others])))
    if not parts:
        return None
    short = [] if others else [Literal(answer) for answer in _short_answers(findings)]
    return choice([row(*parts), *short]) if short else row(*parts)


def _short_answers(findings: Sequence[str]) -> list[str]:
    """What may answer a question about the findings: yes, no, their numbers, names and places."""
    answers = ["yes", "no"]
    for finding in findings:
        placed = _PLACED.fullmatch(finding)
        if placed is not None:
            answers += [placed["place"], placed["name"]]
        else:
            answers.append(finding.partition(" ")[0].replace("no", "0"))
    return list(dict.fromkeys(answers))


def texts_of(reports: Sequence[ToolMessage]) -> list[str]:
    """The texts of tool messages, one line each, of bounded length."""
    return [" ".join(report.text.split())[:_MAX_TEXT] for report in reports]


def _sorted(texts: Sequence[str]) -> tuple[list[str], list[str]]:
    """Findings, each once, and texts that are something else."""
    findings: list[str] = []
    others: list[str] = []
    for text in texts:
        first, _, rest = text.partition("\n")
        items = first.removesuffix(".").split(", ")
        if (
            first.endswith(".")
            and not rest
            and all(_FINDING.fullmatch(item) or _PLACED.fullmatch(item) for item in items)
        ):
            findings += items
        elif text:
            others.append(text)
    return list(dict.fromkeys(findings)), others
