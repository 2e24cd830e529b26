from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk import drawing
from visionllm_sdk.errors import HandleError, InputError
from visionllm_sdk.results import (
    Answer,
    Box,
    Count,
    Detection,
    Detections,
    GeneratedImage,
    Grounding,
    ImageResult,
    Keypoint,
    Mask,
    Point,
    Pose,
    Poses,
    Region,
    Scribble,
    SemanticMap,
)

WIDTH, HEIGHT = 200, 150
GREY = (120, 120, 120)


@pytest.fixture
def paper() -> Image.Image:
    return Image.new("RGB", (WIDTH, HEIGHT), GREY)


def square(x1: int, y1: int, x2: int, y2: int) -> Mask:
    array = np.zeros((HEIGHT, WIDTH), dtype=bool)
    array[y1:y2, x1:x2] = True
    return Mask.from_numpy(array)


def detections(*labels: str, width: int = WIDTH, height: int = HEIGHT) -> Detections:
    found = tuple(
        Detection(label=label, score=0.5, box=Box(10 + 60 * n, 40, 50 + 60 * n, 100))
        for n, label in enumerate(labels)
    )
    return Detections(width=width, height=height, detections=found)


def poses() -> Poses:
    keypoints = (
        Keypoint("nose", 100, 40, 0.9),
        Keypoint("hip", 100, 90, 0.9),
        Keypoint("knee", 120, 120, 0.4, visible=False),
    )
    pose = Pose("person", 0.9, Box(80, 30, 130, 130), keypoints)
    return Poses(
        width=WIDTH,
        height=HEIGHT,
        label="person",
        poses=(pose,),
        names=("nose", "hip", "knee"),
        skeleton=(("nose", "hip"), ("hip", "knee"), ("nose", "tail")),
    )


def changed(before: Image.Image, after: Image.Image) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    return (np.asarray(before) != np.asarray(after)).any(axis=-1)


def test_box_is_drawn_on_its_edge(paper: Image.Image) -> None:
    drawn = detections("star").draw(paper)
    assert (drawn.size, drawn.mode) == (paper.size, "RGB")
    assert drawn.getpixel((10, 70)) == drawing.PALETTE[0]
    assert drawn.getpixel((49, 70)) == drawing.PALETTE[0]
    assert drawn.getpixel((30, 99)) == drawing.PALETTE[0]
    assert drawn.getpixel((30, 70)) == GREY
    assert drawn.getpixel((51, 70)) == GREY


def test_name_stands_above_the_box(paper: Image.Image) -> None:
    touched = changed(paper, detections("star").draw(paper))
    assert touched[20:40, 10:40].any()
    assert not touched[:20].any()


def test_name_stays_inside_the_picture(paper: Image.Image) -> None:
    corner = Detection(label="a very long name indeed", score=1, box=Box(195, 0, 200, 4))
    drawn = Detections(width=WIDTH, height=HEIGHT, detections=(corner,)).draw(paper)
    touched = np.flatnonzero(changed(paper, drawn).any(axis=0))
    assert touched.min() < 150


def test_mask_is_tinted_with_a_solid_edge(paper: Image.Image) -> None:
    mask = square(20, 60, 60, 120)
    found = Detections(
        width=WIDTH, height=HEIGHT, detections=(Detection("star", 1, Box(20, 60, 60, 120), mask=mask),)
    )
    drawn = found.draw(paper)
    inside = drawn.getpixel((40, 90))
    assert inside not in (GREY, drawing.PALETTE[0])
    assert drawn.getpixel((40, 60)) == drawing.PALETTE[0]
    assert drawn.getpixel((100, 90)) == GREY


def test_colours_follow_labels_and_else_objects(paper: Image.Image) -> None:
    mixed = detections("star", "ring", "star").draw(paper)
    assert mixed.getpixel((10, 70)) == mixed.getpixel((130, 70)) != mixed.getpixel((70, 70))
    same = detections("star", "star").draw(paper)
    assert same.getpixel((10, 70)) != same.getpixel((70, 70))


def test_many_labels_and_objects(paper: Image.Image) -> None:
    found = tuple(
        Detection(label=f"label {n}", score=n / 100, box=Box(n, n, n + 50, n + 40)) for n in range(100)
    )
    assert Detections(width=WIDTH, height=HEIGHT, detections=found).draw(paper).size == paper.size


def test_nothing_found_changes_nothing(paper: Image.Image) -> None:
    assert not changed(paper, Detections(width=WIDTH, height=HEIGHT).draw(paper)).any()


def test_given_image_is_left_alone(paper: Image.Image) -> None:
    detections("star").draw(paper)
    poses().draw(paper)
    assert not changed(paper, Image.new("RGB", (WIDTH, HEIGHT), GREY)).any()


def test_boxes_beyond_the_border(paper: Image.Image) -> None:
    boxes = [Box(-50, -50, 20, 20), Box(180, 140, 400, 300), Box(-9, -9, 999, 999), Box(300, 300, 400, 400)]
    boxes += [Box(50, 50, 50, 50), Box(50, 50, 50.4, 90)]
    found = tuple(Detection(label="x", score=1, box=box) for box in boxes)
    drawn = Detections(width=WIDTH, height=HEIGHT, detections=found).draw(paper)
    assert drawn.getpixel((10, 19)) != GREY


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (400, 2), (2000, 1500)])
def test_any_size_of_image(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size)
    drawn = detections("star", width=size[0], height=size[1]).draw(image)
    assert drawn.size == size


def test_semantic_map(paper: Image.Image) -> None:
    indices = np.full((HEIGHT, WIDTH), -1)
    indices[:60], indices[100:, :8] = 0, 1
    drawn = SemanticMap.from_numpy(indices, ["sky", "post", "absent"]).draw(paper)
    assert drawn.getpixel((3, 30)) != GREY
    assert drawn.getpixel((150, 120)) == GREY
    assert drawn.getpixel((4, 100)) == drawing.PALETTE[1]


def test_poses(paper: Image.Image) -> None:
    drawn = poses().draw(paper)
    assert drawn.getpixel((100, 65)) == drawing.PALETTE[0]  # the bone from nose to hip
    assert drawn.getpixel((100, 40)) == drawing.PALETTE[0]  # a visible joint is filled
    assert drawn.getpixel((120, 120)) == (255, 255, 255)  # a covered one is hollow


def test_count_and_grounding(paper: Image.Image) -> None:
    found = detections("star")
    count = Count(width=WIDTH, height=HEIGHT, label="star", count=1, detections=found)
    assert changed(found.draw(paper), count.draw(paper))[120:].any()
    grounding = Grounding(width=WIDTH, height=HEIGHT, expression="x", detections=found.detections)
    assert not changed(grounding.draw(paper), found.draw(paper)).any()


def test_what_has_no_place(paper: Image.Image) -> None:
    with pytest.raises(InputError, match="nothing to draw"):
        drawing.draw(Answer("yes"), paper)


def test_a_produced_picture_is_an_image(paper: Image.Image) -> None:
    made = GeneratedImage(width=WIDTH, height=HEIGHT, prompt="a star", seed=1, steps=1, guidance=1.0)
    picture, found = made.with_image(paper), detections("star")
    assert not changed(found.draw(picture), found.draw(paper)).any()
    assert found.with_image(picture)._repr_png_() == found.with_image(paper)._repr_png_()
    with pytest.raises(HandleError, match="pixels of this picture are not here"):
        found.draw(made)


def test_image_of_another_size() -> None:
    with pytest.raises(InputError, match="another size"):
        detections("star").draw(Image.new("RGB", (10, 10)))


@pytest.mark.parametrize(
    "region", [Box(20, 20, 80, 90), Point(50, 50), Scribble([(10, 50), (90, 60)]), square(20, 20, 60, 60)]
)
def test_regions(region: Region, paper: Image.Image) -> None:
    drawn = drawing.draw_region(region, paper)
    touched = changed(paper, drawn)
    assert touched.any()
    assert not touched[:, 110:].any()


@pytest.mark.parametrize("result", [detections("star"), poses(), Detections(width=3000, height=20)])
def test_notebook_preview(result: ImageResult) -> None:
    picture = Image.open(BytesIO(result._repr_png_()))
    assert picture.format == "PNG"
    assert max(picture.size) <= 1024


def test_notebook_preview_shows_the_attached_image() -> None:
    shown = detections().with_image(Image.new("RGB", (WIDTH, HEIGHT), (1, 2, 3)))
    assert Image.open(BytesIO(shown._repr_png_())).getpixel((5, 5)) == (1, 2, 3)


def test_contact_sheet() -> None:
    images = [Image.new("RGB", (40 + 10 * n, 30), drawing.PALETTE[n]) for n in range(5)]
    sheet = drawing.contact_sheet(images, [f"picture {n} " * n for n in range(5)], columns=2, cell=100)
    gap, footer = 8, 22
    assert sheet.size == (gap + 2 * (100 + gap), gap + 3 * (100 + footer + gap))
    for number in range(5):
        x = gap + number % 2 * (100 + gap) + 50
        y = gap + number // 2 * (100 + footer + gap) + 50
        assert sheet.getpixel((x, y)) == drawing.PALETTE[number]


def test_contact_sheet_without_titles() -> None:
    sheet = drawing.contact_sheet([Image.new("L", (9, 9))], cell=50)
    assert sheet.size == (66, 66)


def test_contact_sheet_needs_images_and_titles() -> None:
    with pytest.raises(InputError, match="at least one"):
        drawing.contact_sheet([])
    with pytest.raises(InputError, match="one title"):
        drawing.contact_sheet([Image.new("L", (9, 9))], ["a", "b"])


@pytest.mark.parametrize(
    ("images", "settings"),
    [
        ([3], {}),
        (Image.new("L", (9, 9)), {}),
        ([Image.new("L", (9, 9))], {"columns": 0}),
        ([Image.new("L", (9, 9))], {"columns": 1.5}),
        ([Image.new("L", (9, 9))], {"cell": 0}),
        ([Image.new("L", (9, 9))], {"cell": 10**6}),
        ([Image.new("L", (9, 9))], {"titles": [3]}),
    ],
)
def test_contact_sheets_that_cannot_be(images: Any, settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        drawing.contact_sheet(images, **settings)


@pytest.mark.parametrize("points", [[(20, 10)], [(20, 10), (20, 10)]])
def test_a_scribble_without_length_is_seen(points: list[tuple[float, float]]) -> None:
    drawn = drawing.draw_region(Scribble(points), Image.new("RGB", (40, 20)))
    assert drawn.getpixel((20, 10)) == drawing.PALETTE[0]
