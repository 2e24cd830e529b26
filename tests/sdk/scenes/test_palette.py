from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS
from visionllm_sdk.scenes.palette import (
    PALETTE,
    background_word,
    blend,
    colour_word,
    difference,
    draw_colour,
    lab,
    shifted,
)


def test_every_word_has_colours() -> None:
    assert tuple(PALETTE) == COLOURS


@given(st.integers(0, 2**30), st.sampled_from(COLOURS))
def test_a_drawn_colour_has_one_name(seed: int, word: str) -> None:
    assert colour_word(draw_colour(Dice(seed), word), slack=0.01) == word


@given(st.integers(0, 2**30), st.sampled_from(COLOURS), st.sampled_from(COLOURS))
def test_colours_of_two_words_differ_to_the_eye(seed: int, one: str, two: str) -> None:
    dice = Dice(seed)
    if one != two:
        assert difference(lab(draw_colour(dice, one)), lab(draw_colour(dice, two))) > 12


@pytest.mark.parametrize(
    ("rgb", "word"),
    [
        ((255, 0, 0), "red"), ((220, 20, 60), "red"), ((0, 128, 0), "green"), ((0, 0, 255), "blue"),
        ((255, 255, 0), "yellow"), ((128, 0, 128), "purple"), ((255, 165, 0), "orange"),
        ((255, 192, 203), "pink"),
        ((255, 105, 180), "pink"), ((139, 69, 19), "brown"), ((0, 0, 0), "black"), ((255, 255, 255), "white"),
        ((128, 128, 128), None), ((0, 255, 255), None),
    ],
)  # fmt: skip
def test_well_known_colours(rgb: tuple[int, int, int], word: str | None) -> None:
    assert colour_word(rgb) == word


@given(st.integers(0, 2**30), st.sampled_from(BACKGROUND_COLOURS))
def test_background_words_include_gray(seed: int, word: str) -> None:
    assert background_word(draw_colour(Dice(seed), word)) in (word, None if word != "gray" else "gray")


def test_lab_agrees_with_published_values() -> None:
    # CIE 1976 L*a*b* of the sRGB primaries under D65, as tabulated by colour science references.
    for rgb, expected in (
        ((255, 255, 255), (100.0, 0.0, 0.0)),
        ((255, 0, 0), (53.24, 80.09, 67.20)),
        ((0, 255, 0), (87.73, -86.18, 83.18)),
        ((0, 0, 255), (32.30, 79.19, -107.86)),
    ):
        assert lab(rgb) == pytest.approx(expected, abs=0.15)


def test_shifting_keeps_the_hue_and_blending_meets_in_the_middle() -> None:
    assert shifted((200, 100, 0), -100 / 255) == (100, 50, 0)
    assert blend((0, 10, 200), (100, 30, 0), 0.5) == (50, 20, 100)
