"""What may be sampled: the limits of a family of scenes."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS, FIGURES, HELD_BACK_SHAPES, SHAPES, SIZES
from visionllm_sdk.scenes.spec import BACKGROUND_KINDS, BackgroundKind, Look

Share = Annotated[float, Field(ge=0, le=1)]
MIN_SIDE, MAX_SIDE = 64, 2048
MAX_OBJECTS = 32


class SceneOptions(BaseModel):
    """Limits of the scenes to sample.

    Attributes:
        canvas: fixed (width, height) in pixels; None draws both anew for every scene.
        sides: smallest and largest side of a drawn canvas, in pixels.
        max_aspect: longer side over shorter side of a drawn canvas, at most.
        objects: fewest and most objects.
        kinds: shapes to draw; held-back ones only when named here.
        colours: colour words of shapes.
        sizes: size words.
        figures: probability that an object is a figure instead of a shape.
        figure_kinds: which figures.
        figure_extent: longer side of a figure as a share of the canvas' shorter side.
        manners: probability that a figure is drawn in another manner than the usual one: as a sign or a stick
            figure, seen from the side, seated, in a skirt, with a line around it.
        looks: "blueprint" only when named here.
        backgrounds: kinds of background of the natural look; "clutter", as in photographs, only when named.
        background_colours: words for plain backgrounds, of `BACKGROUND_COLOURS`; () leaves them free.
        overlap: probability of a scene in which objects may hide part of each other.
        max_occlusion: largest share of an object that others may hide.
        max_cut: largest share of an object that the canvas border may cut off.
        decoration: probability of each of outline, shading and texture on a shape.
        effects: probability of each of blur, sensor noise and JPEG.

    Raises:
        ConfigError: when a value is out of range or contradicts another.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    canvas: tuple[int, int] | None = None
    sides: tuple[int, int] = (96, 640)
    max_aspect: float = Field(default=3.0, ge=1, le=4)
    objects: tuple[int, int] = (1, 8)
    kinds: tuple[str, ...] = Field(default=SHAPES, min_length=1)
    colours: tuple[str, ...] = Field(default=COLOURS, min_length=1)
    sizes: tuple[str, ...] = Field(default=SIZES, min_length=1)
    figures: Share = 0.12
    figure_kinds: tuple[str, ...] = Field(default=FIGURES, min_length=1)
    figure_extent: tuple[float, float] = (0.3, 0.75)
    manners: Share = 0.0
    looks: tuple[Look, ...] = Field(default=("natural",), min_length=1)
    backgrounds: tuple[BackgroundKind, ...] = Field(default=BACKGROUND_KINDS, min_length=1)
    background_colours: tuple[str, ...] = ()
    overlap: Share = 0.4
    max_occlusion: float = Field(default=0.4, ge=0, le=0.4)
    max_cut: float = Field(default=0.12, ge=0, le=0.2)
    decoration: Share = 0.25
    effects: Share = 0.15

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                f"scene options: {'.'.join(map(str, first['loc'])) or 'values'}: {first['msg']}",
                value=first["input"],
                remedy="See the attributes of SceneOptions.",
            ) from error

    @model_validator(mode="after")
    def _check(self) -> SceneOptions:
        for name, known in (
            ("kinds", SHAPES + HELD_BACK_SHAPES),
            ("colours", COLOURS),
            ("background_colours", BACKGROUND_COLOURS),
            ("sizes", SIZES),
            ("figure_kinds", FIGURES),
        ):
            strange = sorted(set(getattr(self, name)) - set(known))
            if strange:
                raise ValueError(f"{name} {strange} are unknown; known are {', '.join(known)}")
        for side in (*self.sides, *(self.canvas or ())):
            if not MIN_SIDE <= side <= MAX_SIDE:
                raise ValueError(f"a side of {side} pixels is outside {MIN_SIDE}..{MAX_SIDE}")
        if self.sides[0] > self.sides[1] or not 0 <= self.objects[0] <= self.objects[1] <= MAX_OBJECTS:
            raise ValueError(f"ranges go from low to high, with at most {MAX_OBJECTS} objects")
        if not 0.1 <= self.figure_extent[0] <= self.figure_extent[1] <= 0.95:
            raise ValueError("figure_extent lies within 0.1..0.95, low to high")
        return self
