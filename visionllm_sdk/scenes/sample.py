"""Drawing random scenes that a person could describe without doubt.

Every object is plain to see: its colour differs from everything behind it, at least 60 % of it is visible,
and its size word and colour word could not be another. One integer seed fixes the whole scene.
"""

from __future__ import annotations

from visionllm_sdk.errors import DataError
from visionllm_sdk.scenes import figures
from visionllm_sdk.scenes.backdrop import Backdrop, sample_background
from visionllm_sdk.scenes.decoration import decorate
from visionllm_sdk.scenes.dice import Dice
from visionllm_sdk.scenes.facts import SIZE_RANGES
from visionllm_sdk.scenes.layers import BLUEPRINT_FILL
from visionllm_sdk.scenes.manners import redrawn
from visionllm_sdk.scenes.options import SceneOptions
from visionllm_sdk.scenes.palette import draw_colour
from visionllm_sdk.scenes.placement import Placement
from visionllm_sdk.scenes.poses import POSES
from visionllm_sdk.scenes.spec import RGB, Effects, ObjectSpec, Point, SceneSpec

SCENE_STREAM = 0
_TRIES = 10
_MIN_FIGURE = 24.0
"""Pixels below which a figure's limbs cannot be told apart."""


def sample_scene(seed: int, *, options: SceneOptions | None = None) -> SceneSpec:
    """The scene of an integer seed.

    Args:
        seed: non-negative; see `visionllm_sdk.scenes.seeds` for those that training may use.
        options: limits of the scenes; the same seed under other options is another scene.

    Raises:
        DataError: when the seed is negative.
    """
    if seed < 0:
        raise DataError("a scene's seed must not be negative", value=seed, remedy="Use 0 or above.")
    options = options or SceneOptions()
    dice = Dice(seed, stream=SCENE_STREAM)
    width, height = options.canvas or _canvas(dice, options)
    look = dice.choice(options.looks)
    backdrop = sample_background(dice, options, look, min(width, height))
    placement = Placement(width, height, options, overlap=dice.chance(options.overlap))
    wanted = dice.integer(*options.objects)
    painter = _Painter(dice, options, backdrop, min(width, height), blueprint=look == "blueprint")
    for _ in range(wanted):
        _add_one(dice, painter, placement, crowd=wanted)
    return SceneSpec(
        width=width,
        height=height,
        background=backdrop.background,
        objects=tuple(placement.items),
        effects=_effects(dice, options, min(width, height)),
        look=look,
        seed=seed,
    )


def sample_object(seed: int, scene: SceneSpec, *, options: SceneOptions | None = None) -> ObjectSpec | None:
    """One more object that fits on top of `scene` by the same rules; None when there is no room for it.

    Args:
        seed: fixes the choice.
        scene: its background and objects are respected.
        options: limits; kinds and colours can be narrowed to one.
    """
    options = options or SceneOptions()
    dice = Dice(seed, stream=SCENE_STREAM + 1)
    backdrop = Backdrop(scene.background)
    placement = Placement(scene.width, scene.height, options, overlap=False)
    for item in scene.objects:
        placement.accept(item)
    short = min(scene.width, scene.height)
    painter = _Painter(dice, options, backdrop, short, blueprint=scene.look == "blueprint")
    before = len(placement.items)
    _add_one(dice, painter, placement, crowd=before + 1)
    return placement.items[-1] if len(placement.items) > before else None


def _canvas(dice: Dice, options: SceneOptions) -> tuple[int, int]:
    """A side length and an aspect ratio, both even on a logarithmic scale."""
    low, high = options.sides
    limit = min(options.max_aspect, high / low)
    aspect = limit ** dice.uniform(-1, 1)
    ratio = max(aspect, 1 / aspect)
    short = low * (high / ratio / low) ** dice.random()
    sides = round(short), min(round(short * ratio), high)
    return (sides[1], sides[0]) if aspect > 1 else sides


def _add_one(dice: Dice, painter: _Painter, placement: Placement, *, crowd: int) -> None:
    """Places one object, or none when there is no room after a number of tries."""
    item: ObjectSpec | None = None
    for attempt in range(_TRIES):
        if attempt % 3 == 0:
            # A thing that finds no place is redrawn, and in a crowd it gets smaller.
            item = painter.draw(small=crowd > 5 or attempt > 0)
        if item is None:
            continue
        moved = _moved(item, placement.spot(dice, item))
        if placement.fits(moved):
            placement.accept(moved)
            return


def _moved(item: ObjectSpec, centre: Point) -> ObjectSpec:
    """A copy of an object at another centre."""
    figure = item.figure
    if figure is not None:
        figure = figures.moved(
            figure, scale=1.0, turn=0.0, offset=(centre[0] - item.centre[0], centre[1] - item.centre[1])
        )
    return item.model_copy(update={"centre": centre, "figure": figure})


class _Painter:
    """Draws single objects that stand out from one background."""

    def __init__(
        self, dice: Dice, options: SceneOptions, backdrop: Backdrop, short: int, *, blueprint: bool
    ) -> None:
        self._dice = dice
        self._options = options
        self._backdrop = backdrop
        self._short = short
        self._blueprint = blueprint
        self._room_for_figures = options.figure_extent[1] * short >= _MIN_FIGURE

    def draw(self, *, small: bool) -> ObjectSpec | None:
        """An object at the origin; None when no colour of those wanted would be seen."""
        dice, options = self._dice, self._options
        if self._room_for_figures and dice.chance(options.figures):
            return self._figure(dice.choice(options.figure_kinds), small=small)
        return self._shape(small=small)

    def _size(self, *, small: bool) -> tuple[str, float]:
        """A size word and a diameter in pixels."""
        sizes = self._options.sizes
        index = int(len(sizes) * self._dice.random() ** (1.6 if small else 1.0))
        word = sizes[index]
        low, high = SIZE_RANGES[word]
        return word, round(self._dice.uniform(low, high) * self._short, 2)

    def _shape(self, *, small: bool) -> ObjectSpec | None:
        dice = self._dice
        size, diameter = self._size(small=small)
        kind = dice.choice(self._options.kinds)
        colour = self._colour()
        if colour is None:
            return None
        word, rgb = colour
        # Half of all things stand nearly upright, as they do in drawings made by hand or by other programs.
        turn = dice.uniform(-12, 12) if dice.chance(0.5) else dice.uniform(-180, 180)
        item = ObjectSpec(
            kind=kind,
            colour=None if self._blueprint else word,
            rgb=BLUEPRINT_FILL if self._blueprint else rgb,
            size=size,
            centre=(0.0, 0.0),
            diameter=diameter,
            rotation=round(turn, 2),
            proportion=round(dice.random(), 3),
        )
        return item if self._blueprint else decorate(dice, item, self._options.decoration, self._backdrop)

    def _colour(self) -> tuple[str, RGB] | None:
        for _ in range(12):
            word = self._dice.choice(self._options.colours)
            rgb = draw_colour(self._dice, word)
            if self._blueprint or self._backdrop.shows(rgb):
                return word, rgb
        return None

    def _figure(self, kind: str, *, small: bool) -> ObjectSpec:
        dice = self._dice
        low, high = self._options.figure_extent
        low = max(low, _MIN_FIGURE / self._short)
        share = _clear_share(low + (high - low) * dice.random() ** (2.0 if small else 1.2))
        diameter = share * self._short

        def plain(rgb: RGB) -> bool:
            return self._blueprint or self._backdrop.shows(rgb, least=22)

        pose = POSES[kind](dice, plain)
        if self._options.manners and dice.chance(self._options.manners):
            pose = redrawn(kind, pose, dice, plain)
        turned = figures.moved(pose, scale=100.0, turn=dice.uniform(-15, 15), offset=(0.0, 0.0))
        x1, y1, x2, y2 = figures.extent(figures.parts(kind, turned))
        scale = diameter / max(x2 - x1, y2 - y1)
        offset = (-(x1 + x2) / 2 * scale, -(y1 + y2) / 2 * scale)
        return ObjectSpec(
            kind=kind,
            colour=None,
            rgb=pose.colours["shirt" if kind == "person" else "coat"],
            size=size_word(share),
            centre=(0.0, 0.0),
            diameter=round(diameter, 2),
            figure=figures.moved(turned, scale=scale, turn=0.0, offset=offset),
        )


def _clear_share(share: float) -> float:
    """A relative size moved out of the gaps between the size words."""
    for low, high in ((0.16, 0.19), (0.28, 0.32)):
        if low < share < high:
            return low if share < (low + high) / 2 else high
    return share


def size_word(share: float) -> str:
    """The size word of a diameter that is `share` of the canvas' shorter side."""
    return "small" if share < 0.175 else "medium" if share < 0.3 else "large"


def _effects(dice: Dice, options: SceneOptions, short: int) -> Effects:
    chance = options.effects
    blur = round(dice.uniform(0.3, 0.8) * max(short / 192, 1), 2) if dice.chance(chance) else 0.0
    noise = round(dice.uniform(1.5, 9), 2) if dice.chance(chance) else 0.0
    jpeg = dice.integer(55, 92) if dice.chance(chance) else None
    return Effects(blur=blur, noise=noise, jpeg=jpeg, seed=dice.seed())
