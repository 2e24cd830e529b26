"""What the pose stage learns from: fixed stand-in words, drawn figures, questions and their truth."""

from __future__ import annotations

from random import Random

import pytest
import torch

from visionllm_adapters.recipe.pose_names import (
    CLASSES,
    KEYPOINTS,
    StandInPoses,
    class_index,
    keypoint_index,
)
from visionllm_adapters.recipe.pose_pictures import (
    PosePictures,
    Question,
    Scene,
    collate,
    draw_batch,
    poses_of,
    questions,
)
from visionllm_adapters.recipe.pose_scores import pose_scores
from visionllm_sdk.keypoints import AP10K, COCO
from visionllm_tools.detection.outputs import LayerOutput
from visionllm_tools.pose.outputs import KeypointOutput, PoseOutput


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return draw_batch(Random(3), range(600_000_000, 600_000_006), sides=(120, 140), area=140 * 160)


def batch_of(scenes: list[Scene], kind: str, names: tuple[str, ...]) -> PosePictures:
    return collate(scenes, [Question((kind, "anything else"), names)] * len(scenes))


def test_rows_of_words() -> None:
    assert len(KEYPOINTS) == len(set(KEYPOINTS)) == 23
    assert set(KEYPOINTS) == {*COCO.names, *AP10K.names}
    assert [class_index(kind) for kind in (*CLASSES, "circle", None)] == [0, 1, 2, 2]
    assert keypoint_index("Left_Eye") == keypoint_index("left eye") == KEYPOINTS.index("left eye")
    assert keypoint_index("front wheel") == len(KEYPOINTS)


def test_stand_ins_are_the_same_in_every_run() -> None:
    first, second = StandInPoses(32), StandInPoses(32)
    torch.testing.assert_close(first.keypoints.weight, second.keypoints.weight, rtol=0, atol=0)
    assert not any(parameter.requires_grad for parameter in first.parameters())
    rows = torch.tensor([[0, 5]])
    first.eval()
    torch.testing.assert_close(first(rows[:, :1], rows)[1], first.keypoints(rows))
    first.train()
    assert not torch.allclose(first(rows[:, :1], rows)[1], first.keypoints(rows))


def test_scenes_show_figures_whose_keypoints_lie_inside(scenes: list[Scene]) -> None:
    figures = [figure for scene in scenes for figure in scene.figures]
    assert {figure.kind for figure in figures} == {"person", "dog"}
    for figure in figures:
        x1, y1, x2, y2 = figure.box.tolist()
        assert 0 < figure.area < (x2 - x1) * (y2 - y1)
        for x, y, flag in figure.places.values():
            if flag == 2:
                assert x1 - 0.02 <= x <= x2 + 0.02
                assert y1 - 0.02 <= y <= y2 + 0.02


def test_questions_of_a_batch_are_equally_long(scenes: list[Scene]) -> None:
    rng = Random(1)
    for _ in range(30):
        asked = questions(scenes, rng)
        assert len({(len(one.classes), len(one.names)) for one in asked}) == 1
        assert all(len(set(one.names)) == len(one.names) for one in asked)


def test_only_what_was_asked_for_is_true(scenes: list[Scene]) -> None:
    scene = next(scene for scene in scenes if scene.figures)
    kind = scene.figures[0].kind
    wanted = [figure for figure in scene.figures if figure.kind == kind]
    poses = poses_of(scene, Question(("anything else", kind), ("nose", "handle")))
    assert poses.objects.labels.tolist() == [1] * len(wanted)
    assert tuple(poses.keypoints.shape) == (len(wanted), 2, 3)
    assert poses.keypoints[0, 0].tolist() == pytest.approx(wanted[0].places["nose"])
    assert not poses.keypoints[:, 1].any()
    assert len(poses_of(scene, Question(("anything else",), ("nose",))).objects.boxes) == 0


def test_heat_is_where_visible_keypoints_are(scenes: list[Scene]) -> None:
    batch = batch_of(scenes, "person", COCO.names)
    for row, scene in enumerate(scenes):
        height, width = scene.image.shape[:2]
        for figure in scene.figures:
            for name, (x, y, flag) in figure.places.items():
                if flag == 2:
                    cell = batch.heat[row, keypoint_index(name), int(y * height / 8), int(x * width / 8)]
                    assert cell > 0.6


def test_scores_of_the_truth_and_of_nothing(scenes: list[Scene]) -> None:
    batch = batch_of(scenes, "dog", AP10K.names)
    targets, groups = batch.targets, max(batch.targets.objects.counts)
    logits = torch.full((len(scenes), groups, 2), -9.0)
    logits[..., 0] = torch.where(targets.objects.valid, 9.0, -9.0)
    layer = LayerOutput(logits=logits, boxes=targets.objects.boxes, queries=torch.zeros(0))
    visible = torch.where(targets.visible, 9.0, -9.0)
    output = PoseOutput(
        boxes=[layer],
        poses=[layer],
        keypoints=[KeypointOutput(points=targets.points, visible=visible)],
        encoder=layer,
        tokens=None,
        usable=torch.ones(0),
        label_mask=torch.ones(len(scenes), 2, dtype=torch.bool),
        keypoint_mask=torch.ones(len(scenes), 17, dtype=torch.bool),
    )
    assert pose_scores(output, targets) == pytest.approx(
        {"oks": 1.0, "oks75": 1.0, "pck": 1.0, "seen_ok": 1.0, "alarms": 0.0}, abs=1e-4
    )
    far = KeypointOutput(points=targets.points + 0.5, visible=-visible)
    lost = pose_scores(
        PoseOutput(**{**vars(output), "keypoints": [far]}),
        targets,
    )
    assert lost["pck"] == 0
    assert lost["oks"] < 0.01
    assert lost["seen_ok"] < 0.1
