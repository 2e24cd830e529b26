"""What a request offers: its quoted texts, its numbers, its phrases, and the words that name a tool.

A small model was never taught the tools of other people. It can still call them well if it only has to choose
among what the request itself says; this module reads that from the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

__all__ = [
    "Span", "chunks_of", "is_linked", "masked", "name_words", "number_spans", "numbers_in", "phrase_spans",
    "phrases_in", "quoted_spans", "relevance", "word_spans", "words_of",
]  # fmt: skip

_MAX_WORDS: Final = 6
_MAX_PHRASES: Final = 300
_QUOTED = re.compile(
    r"'([^'\n]{1,200})'(?!\w)|\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|«([^»\n]{1,200})»|`([^`\n]{1,200})`"
)
_OPENING: Final = "'\"“«`(<["
_CLOSING: Final = "'\"”»`>)].,;:!?"
_UNITS: Final = "km|cm|mm|m|kg|mg|g|lbs?|oz|l|ml|hrs?|h|min|sec|s|ms|px|pt|kb|mb|gb|hz|mph|kph"
_END: Final = rf"(?![\w]|\.\d)|(?=(?:{_UNITS})\b)"  # `5km`, but no `2nd` and no `3D`
_NUMBER: Final = re.compile(rf"(?<![\w.])-?\d{{1,18}}(?:\.\d{{1,18}})?(?:{_END})", re.IGNORECASE)
_GROUPED: Final = re.compile(
    rf"(?<![\w.])(?<!\d,)-?\d{{1,3}}(?:,\d{{3}})+(?:\.\d{{1,18}})?(?!,\d)(?:{_END})|{_NUMBER.pattern}",
    re.IGNORECASE,
)
_NAME_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+|[^\W\d_A-Za-z]+")
# fmt: off
_SMALL: Final = frozenset((
    "a", "an", "and", "are", "at", "be", "by", "can", "could", "do", "does", "for", "from", "give", "has",
    "have", "how", "i", "in", "is", "it", "its", "me", "my", "of", "on", "or", "please", "so", "tell", "that",
    "the", "their", "them", "then", "there", "these", "this", "those", "to", "use", "using", "was", "we",
    "what", "when", "where", "which", "who", "why", "will", "with", "would", "you", "your",
))
_GENERAL: Final = frozenset((
    "add", "call", "check", "compute", "create", "do", "fetch", "find", "function", "get", "go", "list",
    "look", "make", "new", "run", "search", "set", "show", "tool", "update", "use", "value", "image",
    "picture",
))
_ORDERS: Final = _GENERAL - {"function", "new", "tool", "value", "image", "picture"}
"""Words that say what to do where they begin a clause."""
_LINKING: Final = frozenset((
    "about", "after", "before", "between", "called", "into", "named", "near", "onto", "regarding", "saying",
    "titled", "until", "with", "without",
))
# fmt: on


@dataclass(frozen=True, kw_only=True)
class Span:
    """A place in a request and what it says.

    Attributes:
        value: a text or a number.
        start: its first character.
        end: behind its last one.
    """

    value: Any
    start: int
    end: int


def masked(text: str, spans: Iterable[Span]) -> str:
    """The text with ends of lines in place of some of its spans; all others stay where they are."""
    characters = list(text)
    for span in spans:
        characters[span.start : span.end] = "\n" * (span.end - span.start)
    return "".join(characters)


def quoted_spans(text: str) -> list[Span]:
    """What stands in quotes; the places include the quotes."""
    return [
        Span(value=next(group for group in match.groups() if group), start=match.start(), end=match.end())
        for match in _QUOTED.finditer(text)
    ]


def word_spans(text: str) -> list[Span]:
    """The words of a text between its blanks, without quotes, brackets and punctuation around them."""
    found = []
    for match in re.finditer(r"\S+", text):
        word = match.group().lstrip(_OPENING)
        start = match.end() - len(word)
        if word := word.rstrip(_CLOSING):
            found.append(Span(value=word, start=start, end=start + len(word)))
    return found


def chunks_of(text: str, *, avoid: Iterable[str] = ()) -> list[Span]:
    """Runs of words between small words, punctuation and words to be avoided, each as long as it gets."""
    banned = {word.casefold() for word in avoid} | _SMALL | _GENERAL | _LINKING
    found: list[Span] = []
    for match in re.finditer(r"[^\s,;()\[\]]+", text):
        word = match.group().rstrip(".:!?")
        if not word or word.casefold() in banned:
            continue
        end = match.start() + len(word)
        if found and text[found[-1].end : match.start()] == " ":
            start = found.pop().start
            found.append(Span(value=text[start:end], start=start, end=end))
        else:
            found.append(Span(value=word, start=match.start(), end=end))
    return found


def phrases_in(text: str, *, avoid: Iterable[str] = ()) -> list[str]:
    """Texts that a request offers as an argument: what stands in quotes, or else its phrases.

    Args:
        text: the request.
        avoid: words that name the tool, not the argument.
    """
    spans = quoted_spans(text) or phrase_spans(text, avoid=avoid)
    return list(dict.fromkeys(span.value for span in spans))[:_MAX_PHRASES]


def is_linked(phrase: str) -> bool:
    """Whether a phrase says two things, one beside the other: `bread with butter`."""
    return not _LINKING.isdisjoint(phrase.casefold().split())


def phrase_spans(text: str, *, avoid: Iterable[str] = ()) -> list[Span]:
    """The phrases of a text: word sequences within a clause, the longest ones first; see `phrases_in`."""
    banned = {word.casefold() for word in avoid}
    found: list[Span] = []
    start = 0
    for stop in re.finditer(r"[.;:!?\n]+(?=\s|$)|$", text):
        clause = text[start : stop.start()]
        found += [
            Span(value=clause[first:last], start=start + first, end=start + last)
            for first, last in _runs(clause, banned)
        ]
        start = stop.end()
    return found


def _runs(clause: str, banned: set[str]) -> Iterator[tuple[int, int]]:
    """Places of word sequences that neither begin nor end with a small word."""
    words = list(re.finditer(r"[^\s,()\[\]]+", clause))
    for size in range(_MAX_WORDS, 0, -1):
        for start in range(len(words) - size + 1):
            first, last = words[start], words[start + size - 1]
            ends = {first.group().casefold(), last.group().casefold()}
            inner = {word.group().casefold() for word in words[start : start + size]}
            if start == 0 and len(words) > 1 and first.group().casefold() in _ORDERS:
                continue
            if not ends & (_SMALL | _LINKING) and not inner & banned:
                yield first.start(), last.end()


def numbers_in(text: str, *, wanted: int | None = None) -> list[int | float]:
    """The numbers of a request in their order, integers as `int`; longer ones than 18 digits are none.

    Args:
        text: the request.
        wanted: how many numbers are asked for. It decides what `1,500` is, one number or two; without it, or
            if neither way gives as many, it is one.
    """
    return [span.value for span in number_spans(text, wanted=wanted)]


def number_spans(text: str, *, wanted: int | None = None) -> list[Span]:
    """The numbers of a request with their places; see `numbers_in`."""
    readings = [
        [Span(value=_number(found.group()), start=found.start(), end=found.end()) for found in matches]
        for matches in (_GROUPED.finditer(text), _NUMBER.finditer(text))
    ]
    return next((numbers for numbers in readings if len(numbers) == wanted), readings[0])


def _number(word: str) -> int | float:
    digits = word.replace(",", "")
    return float(digits) if "." in digits else int(digits)


def relevance(request: str, function: Mapping[str, Any]) -> int:
    """How much of a request speaks of a function; 0 if nothing does.

    Args:
        request: what the user said.
        function: name, description and parameters, as for OpenAI tools.
    """
    said = _content(words_of(request))
    name = _content(words_of(function["name"])) - _GENERAL
    fields = _content(words_of(" ".join(function.get("parameters", {}).get("properties", {})))) - _GENERAL
    described = _content(words_of(function.get("description", ""))) - _GENERAL - name
    named = re.compile(rf"(?<!\w){re.escape(function['name'])}(?!\w)")
    exact = 100 if named.search(request) or named.match(request[:1].lower() + request[1:]) else 0
    near = len(said & described)
    return exact + 4 * len(said & name) + 2 * len(said & fields) + (near if near >= 2 else 0)


def name_words(name: str) -> list[str]:
    """A tool's name and the words that it is made of, but for the general ones."""
    return [name, *(word for word in words_of(name) if word not in _GENERAL)]


def words_of(text: str) -> list[str]:
    """The words of a text or a name, in small letters: `starCount` is `star`, `count`."""
    return [part.casefold() for part in _NAME_PART.findall(text)]


def _content(words: Sequence[str]) -> set[str]:
    return {_stem(word) for word in words} - _SMALL


def _stem(word: str) -> str:
    for ending in ("ing", "es", "s"):
        if len(word) > len(ending) + 3 and word.endswith(ending) and not word.endswith("ss"):
            return word.removesuffix(ending)
    return word
