"""Outlines, shading and texture that enrich a shape without changing what it is called."""

from __future__ import annotations

from visionllm_sdk.scenes.backdrop import Backdrop
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.palette import shifted
from visionllm_sdk.scenes.spec import RGB, ObjectSpec, Outline, Shading, Texture

_SLENDER = frozenset({"ring", "crescent", "cross", "star", "key", "gear"})
_DARKER = -0.3
"""How much lower in value an outline in the shape's own colour is."""
_MIN_DIAMETER = 22.0
"""Pixels below which a line or a pattern would eat the shape."""


def decorate(dice: Dice, item: ObjectSpec, chance: float, backdrop: Backdrop) -> ObjectSpec:
    """The shape with each of outline, shading and texture added by `chance`, where it stays readable."""
    wants = [dice.chance(chance) for _ in range(3)]
    if item.diameter < _MIN_DIAMETER or not any(wants):
        return item
    update = {
        "outline": _outline(dice, item, backdrop) if wants[0] else None,
        "shading": _shading(dice) if wants[1] else None,
        "texture": _texture(dice, item, backdrop) if wants[2] else None,
    }
    return item.model_copy(update=update)


def _outline(dice: Dice, item: ObjectSpec, backdrop: Backdrop) -> Outline | None:
    if item.kind in _SLENDER and item.diameter < 1.5 * _MIN_DIAMETER:
        return None
    rgb = dice.choice(((0, 0, 0), (255, 255, 255), (60, 60, 60), shifted(item.rgb, _DARKER)))
    if not backdrop.shows(rgb, least=22) or rgb == item.rgb:
        return None
    width = dice.uniform(0.018, 0.028 if item.kind in _SLENDER else 0.045)
    return Outline(rgb=rgb, width=round(max(width, 0.9 / item.diameter), 4))


def _shading(dice: Dice) -> Shading:
    gloss = dice.chance(0.4)
    return Shading(
        kind="gloss" if gloss else "gradient",
        angle=round(dice.uniform(-180, 180), 1),
        strength=round(dice.uniform(0.1, 0.25) if gloss else dice.uniform(0.05, 0.11), 3),
    )


def recoloured(item: ObjectSpec, colour: str, rgb: RGB) -> ObjectSpec:
    """The same shape in another colour: patterns and lines follow where they were tones of the old one."""
    update: dict[str, object] = {"colour": colour, "rgb": rgb}
    if item.texture is not None:
        amount = (max(item.texture.rgb) - max(item.rgb)) / 255
        away = -abs(amount) if max(rgb) >= 120 else abs(amount)
        update["texture"] = item.texture.model_copy(update={"rgb": shifted(rgb, away)})
    if item.outline is not None and item.outline.rgb == shifted(item.rgb, _DARKER):
        update["outline"] = item.outline.model_copy(update={"rgb": shifted(rgb, _DARKER)})
    return item.model_copy(update=update)


def _texture(dice: Dice, item: ObjectSpec, backdrop: Backdrop) -> Texture | None:
    tone = _close_tone(dice, item)
    if not backdrop.shows(tone, least=20):
        return None
    return Texture(
        kind=dice.choice(("stripes", "dots")),
        rgb=tone,
        period=round(max(dice.uniform(0.12, 0.3), 4 / item.diameter), 3),
        angle=round(dice.uniform(0, 180), 1),
    )


def _close_tone(dice: Dice, item: ObjectSpec) -> RGB:
    if item.colour == "white":
        return shifted(item.rgb, -dice.uniform(0.06, 0.11))
    amount = dice.uniform(0.07, 0.13)
    return shifted(item.rgb, amount if max(item.rgb) < 120 else -amount)
