"""Training pictures for the detector: drawn on the spot, one input size a batch, labels that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from visionllm_adapters.recipe.giants import with_giant
from visionllm_adapters.recipe.packing import ANY_COLOUR, ANY_SIZE, UNKNOWN_KIND, link_target
from visionllm_adapters.recipe.pose_names import CLASSES, StandInPoses
from visionllm_adapters.recipe.symbols import KINDS, fourier, symbol_features
from visionllm_sdk.scenes import SceneOptions, render, sample_scene, training_seed, truth
from visionllm_sdk.scenes.facts import BACKGROUND_COLOURS, COLOURS, FIGURES, SHAPES, SceneFacts
from visionllm_sdk.scenes.labels import Label
from visionllm_sdk.scenes.language import Link, random_expression, request_labels
from visionllm_sdk.scenes.spec import SceneSpec

MEAN: Final = (0.485, 0.456, 0.406)
STD: Final = (0.229, 0.224, 0.225)
_EVERYTHING: Final = 0.45
_ALIKE: Final = 0.3
_BARE: Final = 0.2
_FIGURES: Final = 0.3
_MANNERS: Final = 0.6
_CREATURES: Final = 0.3
_PORTRAITS: Final = 0.2
_ALONE: Final = 0.4
_COARSE: Final = 0.06
_CLUTTER: Final = 0.3
_GIANTS: Final = 0.22
_CROWDS: Final = 0.2
_CROWDED: Final = 9
_EVERY_SHAPE: Final = 0.5
_STRETCH: Final = 0.05
"""Each side of a scaled picture, as strangers' proportions are never quite those that scenes have."""
_ASPECTS: Final = (1.0, 1.0, 1.0, 4 / 3, 3 / 4, 1.5, 2 / 3, 2.0, 0.5, 3.0, 1 / 3)


class StandInLabels(nn.Module):
    """Label attributes -> label features: what super-links will have to say, before there are any.

    Args:
        width: channels of the detector's labels (C).
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.tables = nn.ModuleList(
            [nn.Embedding(n + 1, width) for n in (UNKNOWN_KIND, ANY_COLOUR, ANY_SIZE)]
        )
        self.place = nn.Linear(4 * 12, width)
        self.mix = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, attributes: Tensor, boxes: Tensor, has_box: Tensor) -> Tensor:
        """(..., 3) long, (..., 4) relative boxes, (...) bool -> (..., C)."""
        parts = [table(index) for table, index in zip(self.tables, attributes.unbind(-1), strict=True)]
        place = self.place(fourier(boxes)) * has_box[..., None]
        return self.mix(torch.stack([*parts, place]).sum(0))


def name_classes(names: StandInPoses, labels: StandInLabels) -> None:
    """Let classes be what the detector calls a person, a dog and an unknown thing."""
    kinds = [*(KINDS.index(kind) for kind in CLASSES), UNKNOWN_KIND]
    attributes = torch.tensor([[kind, ANY_COLOUR, ANY_SIZE] for kind in kinds])
    with torch.no_grad():
        nowhere = torch.zeros(len(kinds), 4), torch.zeros(len(kinds), dtype=torch.bool)
        names.classes.weight.copy_(labels(attributes, *nowhere))


@dataclass
class Pictures:
    """A batch of pictures with the labels asked for and the truth.

    Attributes:
        pixels: (B, 3, H, W) normalised, zeros in the padding.
        pixel_mask: (B, H, W) bool, True where there is image.
        attributes: (B, N, 3) long, `boxes` (B, N, 4), `has_box` (B, N) bool: the labels' meaning.
        label_mask: (B, N) bool.
        gt_boxes: per picture (n, 4) relative (cx, cy, w, h) of objects that bear at least one label.
        gt_labels: per picture (n, N) bool, which labels each bears.
        gt_masks: per picture (n, H, W) bool, on the padded canvas.
        dense: (B, 2, H, W) uint8 kind and colour of each pixel: 255 background, 254 a figure's colour.
        facts: what is true of each picture.
    """

    pixels: Tensor
    pixel_mask: Tensor
    attributes: Tensor
    boxes: Tensor
    has_box: Tensor
    label_mask: Tensor
    gt_boxes: list[Tensor]
    gt_labels: list[Tensor]
    gt_masks: list[Tensor]
    dense: Tensor
    facts: list[SceneFacts]


@dataclass
class Drawn:
    """One scene as arrays: image (h, w, 3) uint8, masks (n, h, w) bool, facts."""

    image: np.ndarray
    masks: np.ndarray
    facts: SceneFacts


def draw(seed: int, size: tuple[int, int], *, options: SceneOptions | None = None) -> Drawn:
    """Draw training scene `seed` on a canvas of (width, height) or as `options` say."""
    return _drawn(sample_scene(training_seed(seed), options=options or SceneOptions(canvas=size)))


def _drawn(spec: SceneSpec) -> Drawn:
    rendered = render(spec)
    known = truth(spec, rendered)
    return Drawn(np.asarray(rendered.image), np.asarray(known.masks), known.facts())


def draw_batch(
    rng: Random, seeds: Sequence[int], *, sides: tuple[int, int], area: int, crowds: float = _CROWDS
) -> list[Drawn]:
    """Scenes that fit one input size: one aspect ratio with a little jitter, at most `area` pixels each.

    Args:
        rng: chooses sizes and families.
        seeds: of the scenes.
        sides: range of the shorter side, in pixels.
        area: most pixels of a picture.
        crowds: share of scenes of up to 30 things.
    """
    aspect, side = rng.choice(_ASPECTS), rng.randint(*sides)
    side = min(side, int((area / max(aspect, 1 / aspect)) ** 0.5))
    drawn = []
    for seed in seeds:
        ratio = min(3.0, max(1 / 3, aspect * rng.uniform(0.9, 1.1)))
        width, height = max(96, round(side * max(1.0, ratio))), max(96, round(side * max(1.0, 1 / ratio)))
        canvas = size = (width, height)
        if rng.random() < 0.35:
            canvas = _scaled(size, rng)
        spec = sample_scene(training_seed(seed), options=_family(rng, canvas, crowds))
        one = _drawn(with_giant(spec, rng) if rng.random() < _GIANTS else spec)
        one = one if canvas == size else _resized(one, size)
        drawn.append(Drawn(now_and_then_coarse(one.image, rng), one.masks, one.facts))
    return drawn


def _scaled(size: tuple[int, int], rng: Random) -> tuple[int, int]:
    """Another canvas of nearly the same proportions, for a picture that is drawn on it and then resized."""
    least, most = 96 / min(size), 640 / max(size)
    scale = min(max(rng.uniform(0.7, 1.8), least), most)
    width, height = (v * scale * rng.uniform(1 - _STRETCH, 1 + _STRETCH) for v in size)
    return round(width), round(height)


def draw_mixed(rng: Random, seeds: Sequence[int], *, sides: tuple[int, int], area: int) -> list[Drawn]:
    """As `draw_batch`, every scene of its own aspect ratio and without crowds: for what sees square tiles.

    Batch statistics of pictures of one shape tell that shape; what learns with them is lost without them.
    Thirty things are more than anybody puts into words.
    """
    return [one for seed in seeds for one in draw_batch(rng, [seed], sides=sides, area=area, crowds=0.0)]


def _family(rng: Random, canvas: tuple[int, int], crowds: float) -> SceneOptions:
    """Limits of one scene: mostly any; now and then many things, or alike, a plain drawing, or clutter.

    Things drawn one by one are seldom many or alike, or on one bare colour; people draw that all the time.
    They draw persons and dogs in manners of their own, often large and with little else, and they lay their
    drawings upon photographs.
    """
    limits: dict[str, Any] = {"canvas": canvas, "figures": _FIGURES, "manners": _MANNERS}
    if rng.random() < _PORTRAITS:
        limits |= {"objects": (1, 4), "figures": 0.75, "figure_extent": (0.2, 0.95), "manners": 0.75}
    elif rng.random() < _ALIKE:
        limits |= {
            "kinds": tuple(rng.sample(SHAPES, rng.randint(1, 2))),
            "colours": tuple(rng.sample(COLOURS, rng.randint(1, 2))),
            "figures": 0.05,
        }
    elif rng.random() < crowds:
        limits |= {"objects": (_CROWDED, 30), "sizes": ("small", "small", "medium"), "figures": 0.05}
    if rng.random() < _BARE:
        limits |= {
            "backgrounds": ("plain",),
            "background_colours": tuple(rng.sample(BACKGROUND_COLOURS, 3)),
            "decoration": 0.05,
            "effects": 0.1,
        }
    elif rng.random() < _CLUTTER:
        limits |= {"backgrounds": ("clutter",), "effects": 0.3}
    return SceneOptions(**limits)


def _resized(one: Drawn, size: tuple[int, int]) -> Drawn:
    image = np.asarray(Image.fromarray(one.image).resize(size, Image.Resampling.BILINEAR))
    masks = [np.asarray(Image.fromarray(m).resize(size, Image.Resampling.NEAREST)) for m in one.masks]
    stacked = np.stack(masks) if masks else np.zeros((0, size[1], size[0]), bool)
    return Drawn(image, stacked, one.facts)


def now_and_then_coarse(image: np.ndarray, rng: Random) -> np.ndarray:
    """Some pictures (H, W, 3) in large pixels, like small ones that were enlarged; others as they are."""
    if rng.random() >= _COARSE:
        return image
    height, width = image.shape[:2]
    cell = rng.uniform(1.5, 3.0)
    small = Image.fromarray(image).resize((round(width / cell), round(height / cell)), Image.Resampling.BOX)
    return np.asarray(small.resize((width, height), Image.Resampling.NEAREST))


def asked_links(facts: SceneFacts, rng: Random) -> list[Link]:
    """What is asked of one picture: labels, and now and then expressions that mean one object."""
    if len(facts.objects) >= _CROWDED and rng.random() < _EVERY_SHAPE:
        # Labels that few of the things bear never teach that all of many can be found at once.
        return [Link("[DET]", kind, Label(kind)) for kind in rng.sample(SHAPES, len(SHAPES))]
    if rng.random() < _ALONE:
        return [_alone(facts, rng)]
    links = [Link("[DET]", text, label) for text, label in request_labels(facts, rng, rng.randint(1, 10))]
    if rng.random() < 0.25:
        links = links[: rng.randint(0, len(links))]
        for _ in range(rng.randint(1, 3)):
            found = random_expression(facts, rng)
            if found is not None:
                thing = facts.objects[found[1]]
                label = Label(thing.kind, thing.colour, thing.size if thing.colour else None)
                links.append(Link("[GRD]", found[0], label, found[1]))
    if rng.random() < _CREATURES:  # each is the other's hardest "no"
        asked = {link.label for link in links}
        links += [Link("[DET]", kind, Label(kind)) for kind in FIGURES if Label(kind) not in asked]
    # Labels drawn from what is seen hardly ever name everything at once, and counting asks for just that.
    everything = Link("[DET]", "object", Label())
    if not links or (rng.random() < _EVERYTHING and all(link.label != Label() for link in links)):
        links.insert(rng.randint(0, len(links)), everything)
    return links


def _alone(facts: SceneFacts, rng: Random) -> Link:
    """One label and no other beside it that things could rather bear: what people ask most often."""
    if rng.random() < 0.12:
        return Link("[DET]", "object", Label())
    seen = {thing.kind for thing in facts.objects} & set(FIGURES)
    if seen and rng.random() < 0.6:
        kind = rng.choice(FIGURES)
        return Link("[DET]", kind, Label(kind))
    ((text, label),) = request_labels(facts, rng, 1)
    return Link("[DET]", text, label)


def bears(link: Link, facts: SceneFacts, index: int) -> bool:
    """Whether the object at `index` is meant by `link`."""
    if link.referent is not None:
        return index == link.referent
    return link.label is not None and link.label.matches(facts.objects[index])


def collate(drawn: Sequence[Drawn], rng: Random, *, box_noise: float = 0.02) -> Pictures:
    """Pad to a common size (a multiple of 32) and lay out labels and truth."""
    height = -(-max(d.image.shape[0] for d in drawn) // 32) * 32
    width = -(-max(d.image.shape[1] for d in drawn) // 32) * 32
    asked = [asked_links(d.facts, rng) for d in drawn]
    most = max(map(len, asked))
    batch = len(drawn)
    pixels, mask = torch.zeros(batch, 3, height, width), torch.zeros(batch, height, width, dtype=torch.bool)
    attributes, boxes = torch.zeros(batch, most, 3, dtype=torch.long), torch.zeros(batch, most, 4)
    has_box, label_mask = (
        torch.zeros(batch, most, dtype=torch.bool),
        torch.zeros(batch, most, dtype=torch.bool),
    )
    dense = torch.full((batch, 2, height, width), 255, dtype=torch.uint8)
    gt_boxes, gt_labels, gt_masks = [], [], []
    mean, std = (torch.tensor(v)[:, None, None] for v in (MEAN, STD))
    for row, (one, links) in enumerate(zip(drawn, asked, strict=True)):
        h, w = one.image.shape[:2]
        pixels[row, :, :h, :w] = (torch.from_numpy(one.image.copy()).permute(2, 0, 1) / 255 - mean) / std
        mask[row, :h, :w] = True
        for column, link in enumerate(links):
            target = link_target(link, one.facts, 0)
            attributes[row, column] = torch.tensor(target.attributes)
            label_mask[row, column] = True
            if target.box is not None:
                boxes[row, column] = torch.tensor(target.box) + box_noise * torch.randn(4)
                has_box[row, column] = True
        features, relative, _ = symbol_features(one.facts)
        for index, (kind, colour, _) in enumerate(features):
            visible = torch.from_numpy(one.masks[index])
            dense[row, 0, :h, :w][visible] = kind
            dense[row, 1, :h, :w][visible] = 254 if colour == ANY_COLOUR else colour
        borne = torch.tensor(
            [[bears(k, one.facts, i) for k in links] for i in range(len(features))], dtype=torch.bool
        )
        borne = nn.functional.pad(borne.reshape(-1, len(links)), (0, most - len(links)))
        keep = borne.any(-1)
        gt_boxes.append(torch.tensor(relative).reshape(-1, 4)[keep])
        gt_labels.append(borne[keep])
        canvas = torch.zeros(int(keep.sum()), height, width, dtype=torch.bool)
        canvas[:, :h, :w] = torch.from_numpy(one.masks[keep.numpy()])
        gt_masks.append(canvas)
    return Pictures(
        pixels,
        mask,
        attributes,
        boxes,
        has_box,
        label_mask,
        gt_boxes,
        gt_labels,
        gt_masks,
        dense,
        [d.facts for d in drawn],
    )
