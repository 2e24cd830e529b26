"""Regular expressions of a schema as grammars: the part of the syntax in which schemas are written."""

from __future__ import annotations

import base64
import datetime
import ipaddress
import json
import os
import re
import uuid
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from visionllm_sdk.agent.grammar import EMPTY, Characters, Grammar, Literal, choice, repeat, row
from visionllm_sdk.errors import ConfigError

__all__ = ["FORMATS", "PLAIN", "SAID_ONLY", "has_format", "is_strict", "made_up", "pattern_grammar"]

Ranges = tuple[tuple[int, int], ...]

PLAIN: Final[Ranges] = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x10FFFF))
"""Characters that stand for themselves between the quotes of JSON."""

_PLAIN_ASCII: Final[Ranges] = ((0x20, 0x21), (0x23, 0x5B), (0x5D, 0x7E))
_MANY: Final = 16  # what `*` and `+` reach up to
_CLASSES: Final[dict[str, Ranges]] = {
    "d": ((0x30, 0x39),),
    "w": ((0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)),
    "s": ((0x20, 0x20),),
}

_YEAR = r"(19|20)\d\d"
_DATE = _YEAR + r"-(0[1-9]|1[0-2])-(0[1-9]|1\d|2[0-8])"
_TIME = r"([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_IPV4 = r"(1\d\d|[1-9]\d|\d)(\.(1\d\d|[1-9]\d|\d)){3}"
_IPV6 = r"[1-9a-f][0-9a-f]{0,3}(:[1-9a-f][0-9a-f]{0,3}){7}"
# Four letters that stand for three ASCII characters: the high bit of each byte is off.
_BASE64 = r"([A-Za-f][A-HQ-Xg-nw-z0-3][ABEFIJMNQRUVYZcdghkloptswx014589][A-Za-z0-9])+"


def _uuid(version: str) -> str:
    return rf"[0-9a-f]{{8}}-[0-9a-f]{{4}}-{version}[0-9a-f]{{3}}-[89ab][0-9a-f]{{3}}-[0-9a-f]{{12}}"


FORMATS: Final = {
    "date": _DATE,
    "time": _TIME + "Z?",
    "date-time": f"{_DATE}T{_TIME}Z",
    "local-date-time": f"{_DATE}T{_TIME}",
    "zoned-date-time": f"{_DATE}T{_TIME}Z",
    "duration": r"PT[1-9]\d?[HMS]",
    "uuid": _uuid("4"),
    **{f"uuid{version}": _uuid(version) for version in "1345678"},
    "email": r"[a-z]+@[a-z]+\.(com|org|net)",
    "uri": r"https://[a-z]+\.(com|org|net)(/[a-z0-9]+)?",
    "ipv4": _IPV4,
    "ipv4network": _IPV4 + "/32",
    "ipv4interface": _IPV4 + "/24",
    "ipv6": _IPV6,
    "ipv6network": _IPV6 + "/128",
    "ipv6interface": _IPV6 + "/64",
    "ipvanyaddress": _IPV4,
    "ipvanynetwork": _IPV4 + "/32",
    "ipvanyinterface": _IPV4 + "/24",
    "base64": _BASE64,
    "base64url": _BASE64,
    "regex": r"[a-z]+",
    "binary": r"\w+",
    "password": r"\w{8,}",
}
"""Texts of a format that are made up: fewer than the format allows, and every one of them valid."""

SAID_ONLY: Final = ("file-path", "directory-path", "multi-host-uri")
"""Formats of which no text is made up: what they name must be there already."""

_ATOM = r"[\w!#$%&'*+/=?^`{|}~-]+"
_EMAIL: Final = re.compile(rf"(?=[^@]{{1,64}}@){_ATOM}(\.{_ATOM})*@([^\W_](-*[^\W_])*\.)+[^\W\d_](-*[^\W_])+")
_DURATION: Final = re.compile(
    r"P(?=[\dT])(\d+Y)?(\d+M)?(\d+W)?(\d+D)?(T(?=\d)(\d+H)?(\d+M)?(\d+(\.\d+)?S)?)?", re.ASCII
)
_WRITTEN: Final = {
    "date": re.compile(r"\d{4}-\d\d-\d\d", re.ASCII),
    "date-time": re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d.*", re.ASCII),
    "local-date-time": re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?", re.ASCII),
    "zoned-date-time": re.compile(
        r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)", re.ASCII
    ),
    "time": re.compile(r"\d\d:\d\d.*", re.ASCII),
}
"""Python also reads dates without signs and by the week, which JSON Schema does not know."""
_IN_URIS: Final = re.compile(r"[^\s<>\"{}|\\^`]+")
_HOSTLESS: Final = ("data", "file", "mailto", "tel", "urn")  # schemes of addresses that name no host


def made_up(name: str, when: str | None = None) -> str | None:
    """The pattern of a format's texts; None if any text will do.

    Args:
        name: of the format.
        when: "past" or "future" for days and times that must be so: of the nine years on that side.
    """
    expression = FORMATS.get(name)
    if expression is None or when is None:
        return expression
    year = datetime.date.today().year
    years = range(year + 1, year + 10) if when == "future" else range(year - 9, year)
    return expression.replace(_YEAR, f"({'|'.join(map(str, years))})")


def is_strict(name: str) -> bool:
    """Whether texts of a format can be told from other texts."""
    return name in SAID_ONLY or (name in FORMATS and name not in ("regex", "binary", "password"))


def has_format(value: str, name: str) -> bool:
    """Whether a text is of a format; any text is of one that is unknown."""
    readers: dict[str, Callable[[str], object]] = {
        "date": datetime.date.fromisoformat,
        "date-time": datetime.datetime.fromisoformat,
        "local-date-time": datetime.datetime.fromisoformat,
        "zoned-date-time": datetime.datetime.fromisoformat,
        "time": datetime.time.fromisoformat,
        "duration": _DURATION.fullmatch,
        "uuid": uuid.UUID,
        **{f"uuid{version}": partial(_is_uuid, version) for version in range(1, 9)},
        "email": _EMAIL.fullmatch,
        "uri": _is_uri,
        "multi-host-uri": _is_uri,
        "ipv4": ipaddress.IPv4Address,
        "ipv4network": ipaddress.IPv4Network,
        "ipv4interface": ipaddress.IPv4Interface,
        "ipv6": ipaddress.IPv6Address,
        "ipv6network": ipaddress.IPv6Network,
        "ipv6interface": ipaddress.IPv6Interface,
        "ipvanyaddress": ipaddress.ip_address,
        "ipvanynetwork": ipaddress.ip_network,
        "ipvanyinterface": ipaddress.ip_interface,
        "base64": partial(_is_base64, b"+/"),
        "base64url": partial(_is_base64, b"-_"),
        "file-path": os.path.isfile,
        "directory-path": os.path.isdir,
        "regex": re.compile,
    }
    if name not in readers:
        return True
    if name in _WRITTEN and not _WRITTEN[name].fullmatch(value):
        return False
    try:
        return readers[name](value) not in (None, False)
    except (ValueError, re.error):
        return False


def _is_uuid(version: int, value: str) -> bool:
    return uuid.UUID(value).version == version


def _is_base64(marks: bytes, value: str) -> bool:
    """Whether a text encodes another text; raises ValueError where it encodes nothing or no text."""
    return bool(base64.b64decode(value, marks, validate=True).decode())


def _is_uri(value: str) -> bool:
    """Whether a text is an address with its scheme; raises ValueError for a host or port that can be none."""
    parts = urlsplit(value)
    named = bool(parts.scheme and parts.hostname) and (parts.port is None or parts.port >= 0)
    whole = named or (parts.scheme in _HOSTLESS and bool(parts.path))
    return whole and _IN_URIS.fullmatch(value) is not None


class _Part(NamedTuple):
    """A piece of a pattern, and how many characters its texts have."""

    grammar: Grammar
    low: int
    high: int


def pattern_grammar(pattern: str, *, low: int = 0, high: int | None = None) -> Grammar:
    """Texts, inside the quotes of JSON, that the whole pattern matches.

    Args:
        pattern: regular expression. Anchors at its ends change nothing; `*` and `+` go up to 16.
        low: least characters of a text. Open repetitions begin higher and end lower to keep both limits.
        high: most characters; None is any number.

    Raises:
        ConfigError: syntax beyond literals, classes, groups, alternatives and repetition, or limits that
            cannot be kept that way.
    """
    body = pattern.removeprefix("^")
    if body.endswith("$") and not body.endswith("\\$"):
        body = body[:-1]
    for least in range(_MANY + 1):
        for most in range(_MANY, least - 1, -1):
            reader = _Reader(pattern, body, least, most)
            part = reader.alternatives()
            if reader.rest():
                raise reader.unsupported()
            if part.low >= low and (high is None or part.high <= high):
                return part.grammar
            if part.low < low:
                break  # ending lower does not make it longer
    raise ConfigError(
        "the pattern or format of a schema cannot be written in the length that it allows",
        value=pattern,
        limit=f"{low} to {'any number of' if high is None else high} characters",
        remedy="Say the length in the pattern alone, as in [a-z]{2,5}, or check it afterwards.",
    )


class _Reader:
    """Reads a pattern from left to right; open repetitions go from `least` to `most`."""

    def __init__(self, pattern: str, body: str, least: int, most: int) -> None:
        self._pattern = pattern
        self._text = body
        self._place = 0
        self._least, self._most = least, most

    def rest(self) -> str:
        return self._text[self._place :]

    def unsupported(self) -> ConfigError:
        return ConfigError(
            "the pattern of a schema uses syntax that cannot be written by",
            value=self._pattern,
            limit="literals, classes, groups, |, ?, *, +, {m,n}",
            remedy="Simplify the pattern, or leave it out and check the value afterwards.",
        )

    def alternatives(self) -> _Part:
        options = [self._sequence()]
        while self.rest().startswith("|"):
            self._take()
            options.append(self._sequence())
        return _Part(
            choice([one.grammar for one in options]),
            min(one.low for one in options),
            max(one.high for one in options),
        )

    def _take(self) -> str:
        if self._place >= len(self._text):
            raise self.unsupported()
        self._place += 1
        return self._text[self._place - 1]

    def _sequence(self) -> _Part:
        parts: list[_Part] = []
        while self.rest() and self.rest()[0] not in "|)":
            item = self._item()
            low, high = self._times()
            parts.append(_Part(repeat(item.grammar, low, high), item.low * low, item.high * high))
        grammar = row(*(part.grammar for part in parts)) if parts else EMPTY
        return _Part(grammar, sum(part.low for part in parts), sum(part.high for part in parts))

    def _item(self) -> _Part:
        character = self._take()
        if character == "(":
            return self._group()
        if character in "^$*+?{":
            raise self.unsupported()
        if character == "[":
            grammar = _one_of(self._class(), self)
        elif character == ".":
            grammar = _one_of(PLAIN, self)
        elif character == "\\":
            grammar = self._escape()
        else:
            grammar = Literal(json.dumps(character, ensure_ascii=False)[1:-1])
        return _Part(grammar, 1, 1)

    def _group(self) -> _Part:
        if self.rest().startswith("?"):
            if not self.rest().startswith("?:"):
                raise self.unsupported()
            self._place += 2
        inner = self.alternatives()
        if self._take() != ")":
            raise self.unsupported()
        return inner

    def _escape(self) -> Grammar:
        character = self._take()
        if character in _CLASSES:
            return _one_of(_CLASSES[character], self)
        if character.isalnum():
            raise self.unsupported()
        return Literal(json.dumps(character)[1:-1])

    def _class(self) -> Ranges:
        negative = self.rest().startswith("^")
        if negative:
            self._take()
        ranges: list[tuple[int, int]] = []
        whole = PLAIN
        while (character := self._take()) != "]" or not ranges:
            if character == "\\":
                character = self._take()
                if character in _CLASSES:
                    ranges += _CLASSES[character]
                    whole = _PLAIN_ASCII  # beyond it are letters, digits and blanks that a class means, too
                    continue
                if character.isalnum():
                    raise self.unsupported()
            last = character
            if self.rest()[:1] == "-" and self.rest()[1:2] not in ("]", ""):
                self._take()
                last = self._take()
            ranges.append((ord(character), ord(last)))
        return _without(whole, ranges) if negative else tuple(ranges)

    def _times(self) -> tuple[int, int]:
        sign = self.rest()[:1]
        if sign in ("?", "*", "+"):
            self._take()
            return (0, 1) if sign == "?" else self._open(int(sign == "+"), self._most)
        if sign != "{":
            return 1, 1
        inside, closed, _ = self.rest()[1:].partition("}")
        low, comma, high = inside.partition(",")
        if not closed or not low.isdigit() or (high and not high.isdigit()):
            raise self.unsupported()
        self._place += len(inside) + 2
        least = int(low)
        if high or not comma:
            return least, int(high or low)
        return self._open(least, least + self._most)

    def _open(self, low: int, high: int) -> tuple[int, int]:
        """A repetition without end from `low`, within what the length of the text leaves."""
        low = max(low, self._least)
        return low, max(low, high)


def _one_of(ranges: Ranges, reader: _Reader) -> Grammar:
    """One character of the ranges that JSON writes as it is."""
    kept = tuple(
        (max(first, start), min(last, end))
        for first, last in ranges
        for start, end in PLAIN
        if max(first, start) <= min(last, end)
    )
    if not kept:
        raise reader.unsupported()
    return Characters(1, 1, kept)


def _without(whole: Ranges, holes: list[tuple[int, int]]) -> Ranges:
    left = list(whole)
    for first, last in holes:
        left = [
            part
            for start, end in left
            for part in ((start, min(end, first - 1)), (max(start, last + 1), end))
            if part[0] <= part[1]
        ]
    return tuple(left)
