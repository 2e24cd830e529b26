"""Which field of a tool takes which words of a request: every place is taken once.

Fields that can be told apart go first: choices that are said, formats such as addresses and days, numbers.
What is left goes to the fields of free text: what stands behind a word that speaks of the field, as `from`
does of `origin`, then what stands in quotes, in the order of the fields, then the phrases.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final, TypeAlias

from visionllm_sdk.agent.limits import Leaf, fits
from visionllm_sdk.agent.moments import days_in, moments_in, times_in
from visionllm_sdk.agent.patterns import has_format, is_strict
from visionllm_sdk.agent.wordplay import (
    Span,
    chunks_of,
    is_linked,
    masked,
    number_spans,
    numbers_in,
    phrase_spans,
    phrases_in,
    quoted_spans,
    word_spans,
    words_of,
)

__all__ = ["Findings", "Shares", "said_in", "share"]

Path: TypeAlias = tuple[str, ...]

_MAX_PHRASES: Final = 300
_MAX_READ: Final = 4000  # characters of a request that are shared out: what follows is material
_BESIDE: Final = 60  # characters in which the words beside a place stand
_MOMENTS: Final = ("date-time", "local-date-time", "zoned-date-time")
# Words in names of fields, and the words before what they mean.
_CUES: Final[tuple[tuple[frozenset[str], frozenset[str]], ...]] = tuple(
    (frozenset(names.split()), frozenset(before.split()))
    for names, before in (
        (
            "city town location place country region area venue where restaurant hotel shop store bar cafe",
            "in at near around for",
        ),
        ("origin source from start departure sender", "from"),
        ("destination target to end arrival recipient receiver language", "to into"),
        ("name title label", "named called titled"),
        ("topic subject about query theme", "about regarding for on"),
        ("body message text content note comment", "saying says say tell write send post message text"),
        ("author by artist", "by"),
        ("attendees participants members people items ingredients", "with"),
    )
)
# Words in names of plain texts, and the format of what they mean where the request says something of it.
_NAMED: Final = {
    "email": ("email", "mail", "to", "recipient", "receiver", "sender", "from", "cc", "bcc"),
    "uri": ("url", "uri", "link", "website", "homepage"),
    "date-time": ("datetime", "timestamp"),
    "date": ("date", "day", "deadline", "due", "when"),
    "time": ("time", "hour", "when"),
}
_TOLD: Final = (
    *("body", "message", "text", "content", "note", "comment", "caption", "description", "question"),
    *("title", "subject", "query", "phrase", "sentence"),
)
_BETWEEN: Final = frozenset(("the", "a", "an", "my", "our", "of", "is", "be", "to"))  # a cue and its words
_REFERRING: Final = re.compile(
    r"\b(?:it|its|them|this|that|these|those|results?|numbers?|counts?|amount|answer|findings?|"
    r"how (?:many|much)|what|which|where|total|list|report|description|summary)\b",
    re.IGNORECASE,
)
_TELLING: Final = ("email", "uri", "uuid", "ipv4", "ipv6")  # formats whose digits are no numbers


@dataclass(kw_only=True)
class Shares:
    """What a request offers to each field.

    Attributes:
        offers: values to choose from, by the field's path; those of a list's items under `*`.
        known: fields whose value is said: they are not left out.
        absent: fields of which nothing is said: they are left out where they may be.
        rest: the request without what is taken.
    """

    offers: dict[Path, list[Any]] = field(default_factory=dict)
    known: set[Path] = field(default_factory=set)
    absent: set[Path] = field(default_factory=set)
    rest: str = ""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found before a tool is called.

    Attributes:
        text: of the reports.
        asked: the part of the request to which they are the answer.
    """

    text: str
    asked: str


def share(
    leaves: Sequence[Leaf],
    request: str,
    *,
    avoid: Iterable[str] = (),
    findings: Findings | None = None,
) -> Shares:
    """Share a request out among the fields of a tool.

    Args:
        leaves: the fields, in their order, without those that are known otherwise.
        request: what the user said.
        avoid: words that name the tool, not an argument.
        findings: what was found before; it goes where the request leaves something open and refers to it.
    """
    sharing = _Sharing(request[:_MAX_READ], tuple(avoid))
    leaves = [leaf for leaf in leaves if "const" not in leaf.schema]
    texts = [leaf for leaf in leaves if leaf.schema.get("type") == "string" and "enum" not in leaf.schema]
    strict = [leaf for leaf in texts if is_strict(leaf.schema.get("format", ""))]
    sharing.switches([leaf for leaf in leaves if leaf.schema.get("type") == "boolean"])
    sharing.choices([leaf for leaf in leaves if "enum" in leaf.schema])
    sharing.formats(strict)
    free = sharing.named([leaf for leaf in texts if leaf not in strict])
    numbers = [leaf for leaf in leaves if leaf.schema.get("type") in ("integer", "number")]
    sharing.numbers([*numbers, *(leaf for leaf in leaves if _is_list(leaf, "integer", "number"))])
    if findings is not None:
        sharing.findings(findings, numbers, free)
    sharing.texts([*free, *(leaf for leaf in leaves if _is_list(leaf, "string"))])
    return sharing.shares


class _Sharing:
    """A request of which one group of fields after the other takes its part."""

    def __init__(self, request: str, avoid: Sequence[str]) -> None:
        self.shares = Shares(rest=request)
        self._request = request
        self._avoid = avoid

    def switches(self, leaves: Sequence[Leaf]) -> None:
        """Yes or no: left out where no word of their names is said."""
        said = {_singular(word) for word in words_of(self._request)}
        self.shares.absent |= {leaf.path for leaf in leaves if not _cues(leaf)[0] & said}

    def choices(self, leaves: Sequence[Leaf]) -> None:
        """Members of a choice that are said as words of their own."""
        for group in _groups(leaves, "enum"):
            values = [value for value in group[0].schema["enum"] if value is not None]
            self._assign(group, [span for value in values for span in said_in(value, self.shares.rest)])
        # What is not said may still be meant, but hardly against a value that stands for silence.
        self.shares.absent |= {
            leaf.path for leaf in self._open(leaves) if leaf.schema.get("default") is not None
        }

    def formats(self, leaves: Sequence[Leaf]) -> None:
        """Texts of a format; moments before the days and times of which they are made."""
        groups = _groups(leaves, "format")
        for group in sorted(groups, key=lambda group: group[0].schema["format"] not in _MOMENTS):
            found = _of_format(group[0].schema["format"], self.shares.rest)
            self._assign(group, list(found), places=found)
        self.shares.absent |= {leaf.path for leaf in self._open(leaves)}

    def named(self, leaves: Sequence[Leaf]) -> list[Leaf]:
        """Plain texts whose names mean a format; returns those for which nothing of it is said."""
        left = list(leaves)
        for name, words in _NAMED.items():
            found = _of_format(name, self.shares.rest)
            if name in ("date", "time"):  # as it was said
                found = {_as_said(span, self._request): places for span, places in found.items()}
            self._assign([leaf for leaf in left if _means(leaf, words)], list(found), places=found)
            left = [leaf for leaf in left if leaf.path not in self.shares.offers]
        return left

    def numbers(self, leaves: Sequence[Leaf]) -> None:
        """Numbers: beside the field's name, or else in their order; a list takes those that are left."""
        single = [leaf for leaf in leaves if leaf.schema.get("type") != "array"]
        self._assign(single, self._numbers(len(single)))
        for leaf in leaves:
            if leaf not in single:
                self._give(leaf, self._numbers(None), certain=True)
        self.shares.absent |= {leaf.path for leaf in self._open(leaves)}

    def _numbers(self, wanted: int | None) -> list[Span]:
        rest = self.shares.rest
        outside = masked(rest, (*quoted_spans(rest), *_telling(rest)))
        return number_spans(outside, wanted=wanted) or number_spans(rest, wanted=wanted)

    def findings(self, found: Findings, numbers: Sequence[Leaf], texts: Sequence[Leaf]) -> None:
        """What was found before: its numbers, and the whole of it where the request refers to it."""
        for leaf in self._open(numbers):
            counted = [value for value in numbers_in(found.text) if fits(value, leaf.schema)]
            if counted:
                self.shares.offers[leaf.path] = [*counted]
                self.shares.absent.discard(leaf.path)
        quotes = quoted_spans(self.shares.rest)
        left = [leaf for leaf in self._open(texts) if not any(self._is_cued(leaf, quote) for quote in quotes)]
        if not left or not _REFERRING.search(masked(self.shares.rest, quotes)):
            return
        *others, last = [leaf for leaf in left if leaf.required] or left[:1]
        offers = {last.path: [found.text]}
        offers |= {} if quotes else {other.path: phrases_in(found.asked) for other in others}
        for leaf in left:
            values = [value for value in offers.get(leaf.path, ()) if fits(value, leaf.schema)]
            if values:
                self.shares.offers[leaf.path] = [*values]
                self.shares.known.add(leaf.path)

    def texts(self, leaves: Sequence[Leaf]) -> None:
        """What is left, for fields of free text and lists of them."""
        for leaf in leaves:
            quotes = quoted_spans(self.shares.rest)
            first = next((number for number, span in enumerate(quotes) if self._is_cued(leaf, span)), None)
            if first is not None:
                self._give(leaf, self._enumerated(quotes[first:]) if _is_list(leaf) else [quotes[first]])
        quotes = quoted_spans(self.shares.rest)
        if len(quotes) < len(self._open(leaves)):  # rather what is told than whom
            telling = [leaf for leaf in self._open(leaves) if _means(leaf, _TOLD)]
            self._assign(telling[: len(quotes)], quotes)
        self._cued_phrases(self._open(leaves))
        self._assign(self._open(leaves), quoted_spans(self.shares.rest))
        left = self._open(leaves)
        if len(left) == 1 and not _is_list(left[0]):
            self._give(left[0], [span for span in self._behind_colon() if fits(span.value, left[0].schema)])
            left = self._open(leaves)
        untouched = self.shares.rest == self._request and not any(leaf.required for leaf in leaves)
        alone = left[:1] if untouched else []
        self._phrases(alone or [leaf for leaf in left if leaf.required])
        for leaf in self._open(leaves):
            self._nothing(leaf)

    def _behind_colon(self) -> list[Span]:
        """What stands behind the only colon of a request, if nothing of it is taken: `save this: ...`."""
        head, colon, tail = self.shares.rest.rstrip().partition(": ")
        value = tail.strip()
        told = colon and value and not re.search(r": |\n", tail)
        return [Span(value=value, start=len(head) + 2, end=len(head) + 2 + len(tail))] if told else []

    # -- one group -----------------------------------------------------------------------------------------

    def _open(self, leaves: Sequence[Leaf]) -> list[Leaf]:
        return [leaf for leaf in leaves if leaf.path not in self.shares.offers]

    def _assign(
        self,
        leaves: Sequence[Leaf],
        found: Sequence[Span],
        *,
        places: Mapping[Span, Sequence[Span]] | None = None,
    ) -> None:
        """Give each field its own of what was found: by its cue, or in order; the last one takes the rest."""
        spans = sorted(set(found), key=lambda span: (span.start, -span.end))
        left = list(leaves)
        for leaf in leaves if len(leaves) > 1 else ():
            mine = [span for span in spans if fits(span.value, leaf.schema) and self._is_cued(leaf, span)][:1]
            if mine:
                self._give(leaf, mine, places=places)
                left.remove(leaf)
                spans.remove(mine[0])
        if len(spans) < len(left):
            left.sort(key=lambda leaf: not leaf.required)
        for leaf in left:
            mine = [span for span in spans if fits(span.value, leaf.schema)]
            mine = mine if leaf is left[-1] else mine[:1]
            self._give(leaf, mine, places=places, certain="enum" in leaf.schema or len(mine) == 1)
            spans = [span for span in spans if span not in mine]

    def _give(
        self,
        leaf: Leaf,
        spans: Sequence[Span],
        *,
        certain: bool = True,
        places: Mapping[Span, Sequence[Span]] | None = None,
    ) -> None:
        values = [span.value for span in spans]
        if _is_list(leaf):  # it takes them all; if they are too many or too few, it is written one by one
            items = leaf.schema["items"]
            values = [value for value in values if fits(value, items)]
            values = list(dict.fromkeys(values)) if items.get("type") == "string" else values
            self.shares.offers[(*leaf.path, "*")] = values
            values = [values] if values else []
        else:
            values = list(dict.fromkeys(values))[:_MAX_PHRASES]
        if not values:
            return
        self.shares.offers[leaf.path] = values
        if certain:
            self.shares.known.add(leaf.path)
        taken = [place for span in spans for place in (places[span] if places else (span,))]
        self.shares.rest = masked(self.shares.rest, taken)

    def _is_cued(self, leaf: Leaf, span: Span) -> bool:
        """Whether the words beside a place speak of a field."""
        names, cues = _cues(leaf)
        after = re.match(r"\W?(\w+)", self._request[span.end : span.end + _BESIDE])
        if isinstance(span.value, (int, float)) and after and _singular(after[1]) in names:
            return True
        before = self._request[max(span.start - _BESIDE, 0) : span.start].casefold()
        words = re.findall(r"\w+|[.;!?\n](?=\s)", before)[-4:]
        while words:
            word = words.pop()
            if word in cues or _singular(word) in names:
                return True
            if word not in _BETWEEN:
                return False
        return False

    # -- phrases -------------------------------------------------------------------------------------------

    def _cued_phrases(self, leaves: Sequence[Leaf]) -> None:
        """Phrases behind the words that speak of a field; each reaches up to the next one's."""
        phrases = phrase_spans(masked(self.shares.rest, quoted_spans(self.shares.rest)), avoid=self._avoid)
        phrases = phrases if len(leaves) < 2 else [one for one in phrases if not is_linked(one.value)]
        starts: dict[int, Leaf] = {}
        for leaf in leaves:
            cued = [one.start for one in phrases if one.start not in starts and self._is_cued(leaf, one)]
            if cued:
                starts[min(cued)] = leaf
        for start, leaf in starts.items():
            end = min((other for other in starts if other > start), default=len(self._request))
            mine = [one for one in phrases if one.start == start and one.end <= end]
            if _is_list(leaf):
                chunks = chunks_of(self.shares.rest[:end], avoid=self._avoid)
                mine = self._enumerated([one for one in chunks if one.start >= start])
            self._give(leaf, [one for one in mine if fits(one.value, leaf.schema)])

    def _enumerated(self, spans: Sequence[Span]) -> list[Span]:
        """The first of the places and those that an enumeration goes on with."""
        last = next(
            (
                number
                for number, (one, other) in enumerate(pairwise(spans), 1)
                if not re.fullmatch(r",?\s*(?:(?:and|or|&)\s+)?", self._request[one.end : other.start])
            ),
            len(spans),
        )
        return list(spans[:last])

    def _phrases(self, leaves: Sequence[Leaf]) -> None:
        """Phrases for fields that nothing speaks of: one for each, and what follows for the last."""
        chunks = chunks_of(self.shares.rest, avoid=self._avoid)
        ends = [chunk.start for chunk in chunks[1 : len(leaves)]]
        start, shared = 0, len(chunks) > 1 and len(leaves) > 1
        for leaf, end in zip(leaves, (*ends, len(self._request)), strict=False):
            mine = phrase_spans(self.shares.rest, avoid=self._avoid)
            if _is_list(leaf) or (shared and leaf is not leaves[-1]):
                mine = chunks_of(self.shares.rest, avoid=self._avoid)
            mine = [one for one in mine if start <= one.start and one.end <= end]
            mine = _largest(mine)
            self._give(leaf, [one for one in mine if fits(one.value, leaf.schema)], certain=False)
            start = end

    def _nothing(self, leaf: Leaf) -> None:
        """Nothing is said of a field: it is left out, null or empty rather than made up or said twice."""
        self.shares.absent.add(leaf.path)
        empty: Any = [] if leaf.schema.get("type") == "array" else ""
        if self.shares.rest != self._request and fits(empty, leaf.schema):
            self.shares.offers[leaf.path] = [empty]


def said_in(value: Any, text: str) -> list[Span]:
    """The places where a member of a choice is said as words of its own, in any case."""
    words = [re.escape(word) for word in re.split(r"[\s_-]+", str(value)) if word]
    if not words:
        return []
    found = re.finditer(rf"(?<!\w){r'[ _-]'.join(words)}(?!\w)", text, re.IGNORECASE)
    return [Span(value=value, start=match.start(), end=match.end()) for match in found]


def _groups(leaves: Sequence[Leaf], word: str) -> list[list[Leaf]]:
    """The fields by what their schemas say under a keyword."""
    groups: dict[str, list[Leaf]] = {}
    for leaf in leaves:
        groups.setdefault(repr(leaf.schema[word]), []).append(leaf)
    return list(groups.values())


def _of_format(name: str, text: str) -> dict[Span, Sequence[Span]]:
    """What is of a format, and the places that say it."""
    if name in _MOMENTS:
        return {_zoned(span, name): places for span, places in moments_in(text)}
    if name in ("date", "time"):
        return {span: (span,) for span in (days_in(text) if name == "date" else times_in(text))}
    quotes = [span for span in quoted_spans(text) if has_format(span.value, name)]
    words = [span for span in word_spans(masked(text, quotes)) if has_format(span.value, name)]
    return {span: (span,) for span in (*quotes, *words)}


def _zoned(span: Span, name: str) -> Span:
    """A moment with the zone that its format wants: UTC where it wants one and none is said."""
    zone = re.search(r"(Z|[+-]\d\d:\d\d)$", span.value)
    value = span.value
    if name == "zoned-date-time" and zone is None:
        value += "Z"
    if name == "local-date-time" and zone is not None:
        value = value[: zone.start()]
    return Span(value=value, start=span.start, end=span.end)


def _as_said(span: Span, text: str) -> Span:
    return Span(value=text[span.start : span.end], start=span.start, end=span.end)


def _telling(text: str) -> list[Span]:
    """Days, times and addresses."""
    words = [span for span in word_spans(text) if any(has_format(span.value, name) for name in _TELLING)]
    return [*days_in(text), *times_in(text), *words]


def _cues(leaf: Leaf) -> tuple[set[str], set[str]]:
    """The words of a field's name, and those that stand before what it means."""
    words = set(words_of(leaf.path[-1])) if leaf.path else set()
    before = {word for names, cues in _CUES if names & words for word in cues}
    return {_singular(word) for word in words}, before


def _singular(word: str) -> str:
    return word.casefold().removesuffix("s")


def _means(leaf: Leaf, words: Sequence[str]) -> bool:
    """Whether a field's name ends with one of the words: `to`, `user_email`, `email_address`."""
    name = [word for word in words_of(leaf.path[-1]) if word != "address"] if leaf.path else []
    return name[-1:] != [] and name[-1] in words


def _largest(spans: Sequence[Span]) -> list[Span]:
    """The places that are no part of another one."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if not kept or span.end > kept[-1].end:
            kept.append(span)
    return kept


def _is_list(leaf: Leaf, *types: str) -> bool:
    """Whether a field is a list, of plain texts or numbers of one of the types if any are given."""
    items = leaf.schema.get("items", {})
    if leaf.schema.get("type") != "array" or not types:
        return leaf.schema.get("type") == "array"
    plain = items.get("type") in types and not {"enum", "const"} & set(items)
    return plain and "prefixItems" not in leaf.schema and not is_strict(items.get("format", ""))
