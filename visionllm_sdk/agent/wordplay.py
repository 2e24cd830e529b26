"""What a request offers: its quoted texts, its numbers, its phrases, and the words that name a tool.

A small model was never taught the tools of other people. It can still call them well if it only has to choose
among what the request itself says; this module reads that from the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

__all__ = ["name_words", "numbers_in", "phrases_in", "relevance", "words_of"]

_MAX_WORDS: Final = 6
_MAX_PHRASES: Final = 300
_QUOTED = re.compile(
    r"'([^'\n]{1,200})'(?!\w)|\"([^\"\n]{1,200})\"|“([^”\n]{1,200})”|«([^»\n]{1,200})»|`([^`\n]{1,200})`"
)
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
# fmt: on


def phrases_in(text: str, *, avoid: Iterable[str] = ()) -> list[str]:
    """Texts that a request offers as an argument: what stands in quotes, or else its phrases.

    Args:
        text: the request.
        avoid: words that name the tool, not the argument.
    """
    quoted = [next(group for group in match if group) for match in _QUOTED.findall(text)]
    if quoted:
        return list(dict.fromkeys(quoted))
    banned = {word.casefold() for word in avoid}
    found: list[str] = []
    for clause in re.split(r"[.;:!?\n]+(?=\s|$)", text):
        found += _runs(clause, banned)
    return list(dict.fromkeys(found))[:_MAX_PHRASES]


def _runs(clause: str, banned: set[str]) -> list[str]:
    """Word sequences that neither begin nor end with a small word."""
    words = list(re.finditer(r"[^\s,()\[\]]+", clause))
    runs = []
    for size in range(_MAX_WORDS, 0, -1):
        for start in range(len(words) - size + 1):
            first, last = words[start], words[start + size - 1]
            ends = {first.group().casefold(), last.group().casefold()}
            inner = {word.group().casefold() for word in words[start : start + size]}
            if not ends & _SMALL and not inner & banned:
                runs.append(clause[first.start() : last.end()])
    return runs


def numbers_in(text: str, *, wanted: int | None = None) -> list[int | float]:
    """The numbers of a request in their order, integers as `int`; longer ones than 18 digits are none.

    Args:
        text: the request.
        wanted: how many numbers are asked for. It decides what `1,500` is, one number or two; without it, or
            if neither way gives as many, it is one.
    """
    readings = [
        [float(word) if "." in word else int(word) for word in found]
        for found in (
            [word.replace(",", "") for word in _GROUPED.findall(text)],
            _NUMBER.findall(text),
        )
    ]
    return next((numbers for numbers in readings if len(numbers) == wanted), readings[0])


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
    exact = 100 if re.search(rf"(?<!\w){re.escape(function['name'])}(?!\w)", request) else 0
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
