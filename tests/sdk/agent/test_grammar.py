from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk.agent.grammar import (
    EMPTY,
    Characters,
    Escaped,
    Literal,
    Number,
    choice,
    optional,
    repeat,
    row,
)
from visionllm_sdk.agent.patterns import FORMATS, PLAIN, pattern_grammar
from visionllm_sdk.errors import ConfigError


def test_escaped_texts() -> None:
    inside = row(Literal('["'), Characters(0, 2, PLAIN), Literal('"]'))
    grammar = Escaped(inside)
    assert grammar.accepts(r"[\"ab\"]")
    assert not any(map(grammar.accepts, ('["ab"]', r"[\"ab\"]\ ".strip(), r"\[\"\"]", r"[\"abc\"]")))
    size = grammar.shortest
    assert size >= len(r"[\"\"]")
    for byte in rb"[\"\"]":
        grammar = grammar.step(byte)  # type: ignore[assignment]
        assert grammar.shortest < size
        size = grammar.shortest
    assert grammar.ends


def test_literals_choices_and_rows() -> None:
    grammar = row(choice([Literal("a"), Literal("ab")]), Literal("bc"), optional(Literal("d")))
    assert [
        text for text in ("abc", "abbc", "abcd", "abbcd", "ab", "abcdd", "") if grammar.accepts(text)
    ] == [
        "abc",
        "abbc",
        "abcd",
        "abbcd",
    ]
    assert grammar.shortest == 3
    assert not grammar.ends
    assert EMPTY.accepts("")


def test_repetition_has_bounds_and_separators() -> None:
    grammar = row(Literal("["), repeat(Literal("x"), 1, 3, Literal(",")), Literal("]"))
    accepted = [
        text for text in ("[]", "[x]", "[x,x]", "[x,x,x]", "[x,x,x,x]", "[x,]") if grammar.accepts(text)
    ]
    assert accepted == ["[x]", "[x,x]", "[x,x,x]"]


@given(st.text(max_size=6))
def test_characters_are_exactly_those_of_the_ranges(text: str) -> None:
    allowed = all(any(low <= ord(one) <= high for low, high in PLAIN) for one in text)
    encodable = not any(0xD800 <= ord(one) <= 0xDFFF for one in text)
    if encodable:
        assert Characters(1, 4, PLAIN).accepts(text) == (allowed and 1 <= len(text) <= 4)


@given(st.binary(max_size=5))
def test_bytes_that_are_no_text_are_refused(data: bytes) -> None:
    rest = Characters(0, 5, ((0, 0x10FFFF),)).walk(data)
    try:
        data.decode()
    except UnicodeDecodeError:
        assert rest is None or not rest.ends
    else:
        assert rest is not None
        assert rest.ends


@given(st.integers(-300, 300), st.integers(0, 400), st.sampled_from([1, 1, 2, 7, 10]), st.integers(-500, 500))
def test_integers_between_bounds(low: int, span: int, multiple: int, value: int) -> None:
    grammar = Number(low, low + span, multiple=multiple)
    assert grammar.accepts(str(value)) == (low <= value <= low + span and value % multiple == 0)


@given(st.integers(-300, 300), st.integers(0, 400), st.integers(1, 2), st.integers(-900, 900))
def test_decimals_between_bounds(low: int, span: int, decimals: int, value: int) -> None:
    grammar = Number(low, low + span, decimals=decimals)
    digits = f"{abs(value):0{decimals + 1}d}"
    text = f"{'-' * (value < 0)}{digits[:-decimals]}.{digits[-decimals:]}"
    assert grammar.accepts(text) == (low <= value <= low + span)


@pytest.mark.parametrize("text", ["", "-", "05", "-0", "+5", "5.", "1e3", "٣"])
def test_what_is_no_number(text: str) -> None:
    assert not Number(-10, 100).accepts(text)


@given(st.data())
def test_there_is_always_a_way_out_of_the_promised_length(data: st.DataObject) -> None:
    """Following any allowed byte and then the shortest way ends within `shortest` bytes."""
    node = row(
        optional(Literal("né")),
        Characters(1, 3, ((0x4E00, 0x4E20), (0x61, 0x63))),
        choice([Number(-20, -15), Number(130, 260, decimals=2)]),
        pattern_grammar(r"[A-F]{2}(-\d){1,2}x?"),
    )
    for _ in range(data.draw(st.integers(0, 12))):
        options = [byte for byte in range(256) if node.step(byte) is not None]
        if not options:
            break
        node = node.step(data.draw(st.sampled_from(options))) or node
    for _ in range(node.shortest):
        steps = [rest for byte in range(256) if (rest := node.step(byte)) is not None]
        node = min(steps, key=lambda rest: rest.shortest)
    assert node.ends


@pytest.mark.parametrize(
    ("pattern", "good", "bad"),
    [
        (r"^[A-Z]{2}-\d{4}$", ["AB-1234"], ["ab-1234", "AB-123", "AB-12345"]),
        (r"(?:cat|dog)s?", ["cat", "dogs"], ["cow", "catss"]),
        (r"[^a-y ]+", ["z", "Z9"], ["a", "", "z z"]),
        (r"a.c\.", ["abc.", "a-c."], ["ac.", "abcx"]),
        (r"\w{2,}", ["ab", "a_9Z"], ["a", "a-b"]),
        (r"", [""], ["a"]),
    ],
)
def test_patterns(pattern: str, good: list[str], bad: list[str]) -> None:
    grammar = pattern_grammar(pattern)
    assert all(grammar.accepts(text) for text in good)
    assert not any(grammar.accepts(text) for text in bad)


@pytest.mark.parametrize("pattern", [r"(?=a)b", r"a{x}", r"\bword", r"(ab", "a**", r"\1", r"[\u0000-\u0001]"])
def test_patterns_beyond_the_syntax_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        pattern_grammar(pattern)


def test_every_format_can_be_written() -> None:
    for name, pattern in FORMATS.items():
        assert pattern_grammar(pattern).shortest > 0, name
