"""Colour words and the colours they stand for.

A word covers one or more boxes in hue, saturation and value. The boxes keep gaps between the words, so that
no drawn colour could be called by two of them: red against pink, orange and brown are the narrow places.
"""

from __future__ import annotations

import colorsys
import math
from typing import Final, NamedTuple

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.spec import RGB


class _Range(NamedTuple):
    """A box of colours: hue in degrees (may pass 0), saturation and value in 0..1; `weight` for drawing."""

    hue: tuple[float, float]
    saturation: tuple[float, float]
    value: tuple[float, float]
    weight: float = 1.0


PALETTE: Final[dict[str, tuple[_Range, ...]]] = {
    "red": (_Range((-12, 6), (0.80, 1.0), (0.76, 1.0)),),
    "green": (_Range((95, 150), (0.55, 1.0), (0.42, 0.85)), _Range((110, 130), (0.8, 1.0), (0.85, 1.0), 0.2)),
    "blue": (_Range((203, 242), (0.65, 1.0), (0.55, 1.0)),),
    "yellow": (_Range((50, 61), (0.70, 1.0), (0.90, 1.0)),),
    "purple": (
        _Range((268, 300), (0.48, 1.0), (0.42, 0.78)),
        _Range((268, 282), (0.6, 0.9), (0.78, 0.95), 0.3),
    ),
    "orange": (_Range((21, 39), (0.82, 1.0), (0.90, 1.0)),),
    "pink": (
        _Range((322, 348), (0.26, 0.58), (0.92, 1.0)),
        _Range((322, 334), (0.58, 0.78), (0.95, 1.0), 0.3),
        _Range((346, 351), (0.23, 0.32), (0.97, 1.0), 0.15),
    ),
    "brown": (
        _Range((17, 33), (0.50, 0.90), (0.30, 0.56)),
        _Range((12, 17), (0.50, 0.70), (0.36, 0.54), 0.15),
        _Range((18, 28), (0.65, 0.8), (0.56, 0.63), 0.2),
    ),
    "black": (_Range((0, 360), (0.0, 0.25), (0.0, 0.15)),),
    "white": (_Range((0, 360), (0.0, 0.04), (0.94, 1.0)),),
}  # fmt: skip


_GRAY: Final = (_Range((0, 360), (0.0, 0.06), (0.35, 0.78)),)
"""Backgrounds may be gray; things are not, because gray is too near to black and white in dim light."""


def draw_colour(dice: Dice, word: str) -> RGB:
    """A random colour that `word` names and no other word does: a colour of things, or "gray"."""
    ranges = _GRAY if word == "gray" else PALETTE[word]
    box = ranges[dice.weighted([r.weight for r in ranges])]
    return hsv(dice.uniform(*box.hue), dice.uniform(*box.saturation), dice.uniform(*box.value))


def colour_word(rgb: RGB, *, slack: float = 0.04) -> str | None:
    """The word whose range holds `rgb`; None between the words.

    `slack` widens every range by that share of saturation and value and by 100 times as many degrees of hue.
    """
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    for word, ranges in PALETTE.items():
        if any(_inside(box, hue * 360, saturation, value, slack) for box in ranges):
            return word
    return None


def background_word(rgb: RGB) -> str | None:
    """Like `colour_word`, with "gray" among the words."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    gray = any(_inside(box, hue * 360, saturation, value, 0.01) for box in _GRAY)
    return "gray" if gray else colour_word(rgb, slack=0.0)


def _inside(box: _Range, hue: float, saturation: float, value: float, slack: float) -> bool:
    low, high = box.hue
    turn = (hue - low + slack * 100) % 360
    return (
        (turn <= high - low + 2 * slack * 100 or saturation < 0.02 or value < 0.02)
        and (box.saturation[0] - slack <= saturation <= box.saturation[1] + slack or value < 0.06)
        and box.value[0] - slack <= value <= box.value[1] + slack
    )


def hsv(hue: float, saturation: float, value: float) -> RGB:
    """8-bit RGB of a hue in degrees and a saturation and value in 0..1."""
    red, green, blue = colorsys.hsv_to_rgb(hue / 360 % 1.0, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def shifted(rgb: RGB, amount: float) -> RGB:
    """`rgb` with its value raised (or lowered) by `amount` of full scale, hue and saturation kept."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(c / 255 for c in rgb))
    return hsv(hue * 360, saturation, min(max(value + amount, 0.0), 1.0))


def blend(first: RGB, second: RGB, share: float) -> RGB:
    """The colour `share` of the way from `first` to `second`."""
    mixed = [round(a + (b - a) * share) for a, b in zip(first, second, strict=True)]
    return mixed[0], mixed[1], mixed[2]


Lab = tuple[float, float, float]


def lab(rgb: RGB) -> Lab:
    """CIE L*a*b* (D65) of an sRGB colour (IEC 61966-2-1, CIE 15)."""
    red, green, blue = (_linear(c / 255) for c in rgb)
    x = _cube((0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505)
    y = _cube(0.2126 * red + 0.7152 * green + 0.0722 * blue)
    z = _cube((0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def _linear(channel: float) -> float:
    return channel / 12.92 if channel <= 0.04045 else math.pow((channel + 0.055) / 1.055, 2.4)


def _cube(value: float) -> float:
    return math.cbrt(value) if value > 0.008856 else 7.787 * value + 16 / 116


def difference(first: Lab, second: Lab) -> float:
    """How different two colours look: CIE 1976 distance. 2 is just noticeable, 30 is plain to see."""
    return math.dist(first, second)
