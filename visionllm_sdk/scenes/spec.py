"""What to draw: the full description of one scene, from which the same pixels follow every time.

All coordinates are pixels of the canvas, x to the right and y down; pixel (i, j) covers the square
[i, i + 1) x [j, j + 1). Angles are degrees, clockwise as seen on the screen. Colours are 8-bit sRGB.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from visionllm_sdk.scenes.facts import FIGURES

Channel = Annotated[int, Field(ge=0, le=255)]
RGB = tuple[Channel, Channel, Channel]
Point = tuple[float, float]
Look = Literal["natural", "blueprint"]
BackgroundKind = Literal["plain", "gradient", "noise", "stripes", "checks", "blobs", "grid", "clutter"]

BACKGROUND_KINDS: Final[tuple[BackgroundKind, ...]] = (
    "plain", "gradient", "noise", "stripes", "checks", "blobs",
)  # fmt: skip
"""What the natural look draws; "grid" belongs to the blueprint look."""
MAX_SIDE: Final = 4096


class _Part(BaseModel):
    """Frozen, and strict about unknown fields: a misspelt field must not be drawn as its default."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Outline(_Part):
    """A line along the inside of the contour; `width` is a share of the object's diameter."""

    rgb: RGB
    width: float = Field(gt=0, le=0.2)


class Shading(_Part):
    """Light on the surface: a linear ramp ("gradient") or a soft highlight ("gloss").

    `strength` is the largest change of brightness as a share of 255; `angle` is where the light comes from.
    """

    kind: Literal["gradient", "gloss"]
    angle: float
    strength: float = Field(ge=0, le=0.5)


class Texture(_Part):
    """Stripes or dots in the close tone `rgb`; `period` is a share of the object's diameter."""

    kind: Literal["stripes", "dots"]
    rgb: RGB
    period: float = Field(gt=0.02, le=1)
    angle: float


class Figure(_Part):
    """An articulated person or dog, already posed.

    Attributes:
        joints: the 17 keypoints by their COCO (person) or AP-10K (dog) names, in pixels of the canvas.
            "left" and "right" are the figure's own.
        head: centre of the head; `head_radius` its radius in pixels.
        limb: width of a limb in pixels.
        tail: tip of the tail (dogs).
        colours: what each part wears; see `visionllm_sdk.scenes.figures`.
        build: measures that differ from the usual ones; see `visionllm_sdk.scenes.figures`.
    """

    joints: dict[str, Point]
    head: Point
    head_radius: float = Field(gt=0)
    limb: float = Field(gt=0)
    tail: Point | None = None
    colours: dict[str, RGB]
    build: dict[str, float] = Field(default_factory=dict)


class ObjectSpec(_Part):
    """One shape or figure.

    Attributes:
        kind: one of the shapes, figures or held-back shapes of `visionllm_sdk.scenes.facts`.
        colour: colour word of a shape; None for figures and in the blueprint look.
        rgb: the exact base colour.
        size: size word, by `diameter` against the canvas' shorter side.
        centre: centre of the drawn extent before rotation.
        diameter: longer side of the drawn extent in pixels; of a shape, before it is turned.
        rotation: of a shape about `centre`; 0 is upright. Figures carry theirs in the joints.
        proportion: 0..1, where the shape stands between its slim and its stout form.
    """

    kind: str
    colour: str | None
    rgb: RGB
    size: str
    centre: Point
    diameter: float = Field(gt=0)
    rotation: float = 0.0
    proportion: float = Field(default=0.5, ge=0, le=1)
    outline: Outline | None = None
    shading: Shading | None = None
    texture: Texture | None = None
    figure: Figure | None = None

    @property
    def is_figure(self) -> bool:
        """Whether this is an articulated figure with keypoints."""
        return self.kind in FIGURES


class Background(_Part):
    """What lies behind: one to four tones, laid out by `kind`.

    `period` is in pixels (stripes, checks, blobs, grid; the grain of noise; the largest leaves of clutter);
    `angle` turns gradients, stripes and checks; `seed` fixes noise, blobs and clutter.
    """

    kind: BackgroundKind
    tones: tuple[RGB, ...] = Field(min_length=1, max_length=4)
    angle: float = 0.0
    period: float = Field(default=16.0, ge=1)
    seed: int = Field(default=0, ge=0)


class Effects(_Part):
    """What a camera does afterwards, in this order: blur, sensor noise, JPEG.

    `blur` is a Gaussian's standard deviation in pixels; `noise` one in 8-bit steps; `jpeg` a quality 1-95.
    """

    blur: float = Field(default=0.0, ge=0, le=8)
    noise: float = Field(default=0.0, ge=0, le=64)
    jpeg: int | None = Field(default=None, ge=1, le=95)
    seed: int = Field(default=0, ge=0)


class SceneSpec(_Part):
    """One scene: a canvas, a background, and objects in drawing order (the last lies on top)."""

    width: int = Field(ge=1, le=MAX_SIDE)
    height: int = Field(ge=1, le=MAX_SIDE)
    background: Background
    objects: tuple[ObjectSpec, ...] = ()
    effects: Effects = Effects()
    look: Look = "natural"
    seed: int | None = None
