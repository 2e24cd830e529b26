"""Small grammars over bytes that know, for every beginning of a text, what may follow.

A grammar is a tree of immutable nodes. `node.step(byte)` is the grammar of the rest after that byte (None if
the byte may not stand there: the Brzozowski derivative), `node.ends` says whether the text may stop, and
`node.shortest` how many more bytes it takes at least, so that a writer with a limited number of tokens can
always finish. Every node remembers its steps: walking a vocabulary from one place is cheap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from functools import cached_property

__all__ = [
    "EMPTY", "Characters", "Escaped", "Grammar", "Literal", "Number", "choice", "optional", "repeat", "row",
]  # fmt: skip


class Grammar(ABC):
    """A set of byte strings.

    Attributes:
        ends: whether the empty string is one of them.
        shortest: length of the shortest one, in bytes.
    """

    ends: bool
    shortest: int

    @cached_property
    def _steps(self) -> dict[int, Grammar | None]:
        return {}

    def step(self, byte: int) -> Grammar | None:
        """What may follow `byte`; None if it may not stand here."""
        if byte not in self._steps:
            self._steps[byte] = self._derive(byte)
        return self._steps[byte]

    def walk(self, data: bytes) -> Grammar | None:
        """What may follow these bytes; None if they may not stand here."""
        node: Grammar = self
        for byte in data:
            further = node.step(byte)
            if further is None:
                return None
            node = further
        return node

    def accepts(self, text: str) -> bool:
        """Whether the whole text is in the set."""
        rest = self.walk(text.encode())
        return rest is not None and rest.ends

    @abstractmethod
    def _derive(self, byte: int) -> Grammar | None:
        """Compute what may follow `byte`."""


class Literal(Grammar):
    """One text.

    Args:
        text: as characters or as bytes.
    """

    def __init__(self, text: str | bytes) -> None:
        self._data = text.encode() if isinstance(text, str) else text
        self.ends = not self._data
        self.shortest = len(self._data)

    def _derive(self, byte: int) -> Grammar | None:
        return Literal(self._data[1:]) if self._data and self._data[0] == byte else None


EMPTY = Literal("")


class Choice(Grammar):
    """Any of several grammars."""

    def __init__(self, options: Sequence[Grammar]) -> None:
        self._options = options
        self.ends = any(option.ends for option in options)
        self.shortest = min(option.shortest for option in options)

    def _derive(self, byte: int) -> Grammar | None:
        rests = [rest for option in self._options if (rest := option.step(byte)) is not None]
        return choice(rests) if rests else None


class Row(Grammar):
    """One grammar after the other."""

    def __init__(self, first: Grammar, second: Grammar) -> None:
        self._first = first
        self._second = second
        self.ends = first.ends and second.ends
        self.shortest = first.shortest + second.shortest

    def _derive(self, byte: int) -> Grammar | None:
        inside = self._first.step(byte)
        rests = [] if inside is None else [row(inside, self._second)]
        behind = self._second.step(byte) if self._first.ends else None
        rests += [] if behind is None else [behind]
        return choice(rests) if rests else None


class Characters(Grammar):
    """Characters out of a set, in UTF-8.

    Args:
        low: least number of characters.
        high: most characters.
        ranges: allowed code points, first and last of each range.
        partial: bytes of a character that has begun.
    """

    def __init__(
        self, low: int, high: int, ranges: tuple[tuple[int, int], ...], partial: bytes = b""
    ) -> None:
        self._low, self._high = low, high
        self._ranges = ranges
        self._partial = partial
        self.ends = low <= 0 and not partial
        width = len(chr(min(ranges)[0]).encode())
        begun = _size(partial[0]) - len(partial) - width if partial else 0
        self.shortest = max(low, 1 if partial else 0) * width + begun

    def _derive(self, byte: int) -> Grammar | None:
        if self._high <= 0:
            return None
        data = self._partial + bytes([byte])
        first, last = _code_points(data)
        if not any(first <= end and start <= last for start, end in self._ranges):
            return None
        if first != last:
            return Characters(self._low, self._high, self._ranges, data)
        return Characters(self._low - 1, self._high - 1, self._ranges)


class Escaped(Grammar):
    """The texts of another grammar as they stand inside the quotes of JSON.

    Args:
        inside: texts of one line, without quotes around them.
        begun: a backslash has been written.
    """

    def __init__(self, inside: Grammar, *, begun: bool = False) -> None:
        self._inside = inside
        self._begun = begun
        self.ends = inside.ends and not begun
        # At most two bytes for one: a bound that every step towards the end keeps.
        rests = [rest.shortest for mark in b'"\\' if (rest := inside.step(mark)) is not None] if begun else []
        self.shortest = 1 + 2 * min(rests) if rests else 2 * inside.shortest

    def _derive(self, byte: int) -> Grammar | None:
        if not self._begun and byte == ord("\\"):
            possible = any(self._inside.step(mark) is not None for mark in b'"\\')
            return Escaped(self._inside, begun=True) if possible else None
        if (byte in b'"\\') is not self._begun:
            return None
        rest = self._inside.step(byte)
        return None if rest is None else Escaped(rest)


_NOTHING = (1, 0)


def _size(lead: int) -> int:
    """Bytes of a character whose UTF-8 form begins so; 0 if none does."""
    if lead < 0x80:
        return 1
    return 2 if 0xC2 <= lead <= 0xDF else 3 if 0xE0 <= lead <= 0xEF else 4 if 0xF0 <= lead <= 0xF4 else 0


def _code_points(data: bytes) -> tuple[int, int]:
    """First and last character whose UTF-8 form begins so; an empty range if there is none."""
    lead, rest = data[0], data[1:]
    size = _size(lead)
    if size == 1:
        return lead, lead
    if not size or any(byte >> 6 != 0b10 for byte in rest):
        return _NOTHING
    value = lead & (0xFF >> (size + 1))
    for byte in rest:
        value = value << 6 | byte & 0x3F
    missing = 6 * (size - len(data))
    lowest = {2: 0x80, 3: 0x800, 4: 0x10000}[size]
    first, last = max(value << missing, lowest), min((value + 1 << missing) - 1, 0x10FFFF)
    if first > last or (first >= 0xD800 and last <= 0xDFFF):
        return _NOTHING  # longer than need be, or half of a pair
    return first, last


class Number(Grammar):
    """Decimal numbers between two bounds, without an exponent.

    Args:
        low: smallest number, in units of the last decimal.
        high: largest number, in the same units.
        decimals: digits after the point; there is no point if 0.
        multiple: in the same units; only its multiples.
        text: what has been written.
    """

    def __init__(self, low: int, high: int, *, decimals: int = 0, multiple: int = 1, text: str = "") -> None:
        self._low, self._high = low, high
        self._decimals, self._multiple = decimals, multiple
        self._text = text
        self._missing = [size for size in range(20 + decimals) if self._fits(size)]
        self.ends = 0 in self._missing and text[-1:].isdigit()
        point = 1 if decimals and "." not in text else 0
        if self._missing or text:
            self.shortest = min(self._missing, default=0) + point
        else:  # nothing but negative numbers
            self.shortest = 1 + Number(low, high, decimals=decimals, multiple=multiple, text="-").shortest

    def _fits(self, more: int) -> bool:
        """Whether some number within the bounds is written with `more` further digits."""
        sign, digits = (-1, self._text[1:]) if self._text[:1] == "-" else (1, self._text)
        whole, point, part = digits.partition(".")
        if point and len(part) + more != self._decimals:
            return False
        if not point and (more < self._decimals or len(whole) + more < self._decimals + 1):
            return False  # the decimals are still to come
        if (len(whole) > 1 and whole[0] == "0") or (not point and whole == "0" and more != self._decimals):
            return False  # no leading zeros
        written = whole + part
        if not written and more == 0:
            return False
        base = int(written or "0") * 10**more
        least = base if written else (0 if more == self._decimals + 1 else 10 ** (more - 1))
        most = base + 10**more - 1
        first, last = (least, most) if sign > 0 else (-most, -least)
        first, last = max(first, self._low), min(last, self._high)
        if sign < 0:
            last = min(last, -1)
        return first <= last and last // self._multiple * self._multiple >= first

    def _derive(self, byte: int) -> Grammar | None:
        character = chr(byte)
        if character == "-":
            allowed = not self._text
        elif character == ".":
            allowed = self._decimals > 0 and "." not in self._text and self._text[-1:].isdigit()
        else:
            allowed = character.isascii() and character.isdigit()
        if not allowed:
            return None
        rest = Number(
            self._low,
            self._high,
            decimals=self._decimals,
            multiple=self._multiple,
            text=self._text + character,
        )
        return rest if rest._missing else None


def row(*parts: Grammar) -> Grammar:
    """The parts one after the other."""
    *front, node = parts
    for part in reversed(front):
        node = node if part is EMPTY else part if node is EMPTY else Row(part, node)
    return node


def choice(options: Iterable[Grammar]) -> Grammar:
    """Any of the options; there must be one."""
    distinct = list(dict.fromkeys(options))
    return distinct[0] if len(distinct) == 1 else Choice(distinct)


def optional(node: Grammar) -> Grammar:
    """The node or nothing."""
    return choice([node, EMPTY])


def repeat(node: Grammar, low: int, high: int, separator: Grammar = EMPTY) -> Grammar:
    """The node `low` to `high` times, with a separator in between."""
    rest: Grammar = EMPTY
    for number in range(high, 0, -1):
        item = row(node, rest) if number == 1 else row(separator, node, rest)
        rest = item if number <= low else optional(item)
    return rest
