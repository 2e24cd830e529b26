"""Choosing a background, and telling which colours stand out from it."""

from __future__ import annotations

from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.layers import BLUEPRINT_FILL
from visionllm_sdk.scenes.options import SceneOptions
from visionllm_sdk.scenes.palette import difference, draw_colour, hsv, lab
from visionllm_sdk.scenes.spec import RGB, Background, BackgroundKind, Look

PLAIN_TO_SEE = 33.0
"""Least colour difference (CIE 1976) between an object and every tone behind it."""
_CLOSE_TONES = (5.0, 36.0, 70.0)
"""Least and largest colour difference of two tones, and the largest step of a channel between them."""
_FAR_TONES = (12.0, 45.0, 90.0)
"""The same for clutter, whose leaves have no outline of a thing however they differ."""
_DRAUGHT = {"plain": 1, "gradient": 2, "noise": 2, "stripes": 2, "checks": 2, "blobs": 3, "clutter": 4}
"""Number of tones of each kind of background."""


class Backdrop:
    """A background that knows its tones as they are seen."""

    def __init__(self, background: Background) -> None:
        self.background = background
        self._labs = [lab(tone) for tone in background.tones]

    def shows(self, rgb: RGB, *, least: float = PLAIN_TO_SEE) -> bool:
        """Whether `rgb` differs from every tone by at least `least`."""
        seen = lab(rgb)
        return all(difference(seen, tone) >= least for tone in self._labs)


def sample_background(dice: Dice, options: SceneOptions, look: Look, short: int) -> Backdrop:
    """A background in front of which most of the wanted colours can be seen.

    Patterns scale with `short`, the canvas' shorter side in pixels.
    """
    if look == "blueprint":
        return Backdrop(_blueprint(dice, short))
    best, most = None, -1
    for _ in range(8):
        kind = dice.choice(options.backgrounds)
        if kind == "plain" and options.background_colours:
            backdrop = Backdrop(plain_background(dice, dice.choice(options.background_colours)))
        else:
            backdrop = Backdrop(_natural(dice, kind, short))
        seen = sum(backdrop.shows(draw_colour(dice, word)) for word in options.colours)
        if seen >= 0.7 * len(options.colours):
            return backdrop
        if seen > most:
            best, most = backdrop, seen
    assert best is not None, "eight were drawn"
    return best


def plain_background(dice: Dice, word: str) -> Background:
    """One tone that `word`, of `BACKGROUND_COLOURS`, names."""
    return Background(kind="plain", tones=(draw_colour(dice, word),))


def _blueprint(dice: Dice, short: int) -> Background:
    line = tuple(min(c + dice.integer(14, 30), 255) for c in BLUEPRINT_FILL)
    return Background(
        kind="grid", tones=(BLUEPRINT_FILL, (line[0], line[1], line[2])), period=max(short // 12, 6)
    )


def _natural(dice: Dice, kind: BackgroundKind, short: int) -> Background:
    tones = [_dull(dice) if kind == "clutter" else _tone(dice)]
    while len(tones) < _DRAUGHT.get(kind, 1):
        tones.append(_neighbour(dice, tones[0], _FAR_TONES if kind == "clutter" else _CLOSE_TONES))
    coarse = {"noise": (1.0, 3.99), "blobs": (short / 20, short / 2), "clutter": (short / 5, short)}
    low, high = coarse.get(kind, (short / 16, short / 5))
    return Background(
        kind=kind,
        tones=tuple(tones),
        angle=round(dice.uniform(0, 360), 1) if dice.chance(0.6) else dice.choice((0.0, 45.0, 90.0)),
        period=round(max(low, 1) * (max(high, 2) / max(low, 1)) ** dice.random(), 2),
        seed=dice.seed(),
    )


def _tone(dice: Dice) -> RGB:
    """Greys and pale tones most of the time, sometimes muted or strong ones."""
    family = dice.weighted((2, 3, 3, 2, 1.2))
    hue = dice.uniform(0, 360)
    if family == 0:
        return hsv(0, 0, dice.choice((1.0, 0.96, 0.9, 0.1, 0.03)))
    if family == 1:
        return hsv(hue, dice.uniform(0, 0.06), dice.uniform(0.1, 1.0))
    if family == 2:
        return hsv(hue, dice.uniform(0.08, 0.3), dice.uniform(0.75, 1.0))
    if family == 3:
        return hsv(hue, dice.uniform(0.15, 0.45), dice.uniform(0.25, 0.8))
    return hsv(hue, dice.uniform(0.5, 0.9), dice.uniform(0.3, 0.9))


def _dull(dice: Dice) -> RGB:
    """Earth, stone, leaves, water and haze: colours as photographs have them."""
    return hsv(dice.uniform(0, 360), 0.5 * dice.random() ** 1.5, dice.uniform(0.2, 0.85))


def _neighbour(dice: Dice, tone: RGB, gap: tuple[float, float, float]) -> RGB:
    """A second tone near the first: seen as a pattern, never mistaken for objects.

    `gap` is `_CLOSE_TONES` or alike.
    """
    base = lab(tone)
    least, most, step = gap
    other = tone
    for _ in range(12):
        spread = dice.uniform(15, step)
        red, green, blue = (min(max(round(c + dice.uniform(-spread, spread)), 0), 255) for c in tone)
        other = (red, green, blue)
        if least <= difference(base, lab(other)) <= most:
            return other
    return other
