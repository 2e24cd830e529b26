"""Figures of poses have known values where the predictor knows the truth."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

import numpy as np
import pytest
from PIL import Image

from visionllm_sdk.evaluation.samples import Sample, held_out_samples
from visionllm_sdk.evaluation.skills.posing import PoseScene, PoseSkill, pose_scene
from visionllm_sdk.results import Keypoint, Pose, Poses

pytest.importorskip("pycocotools")


class Knowing:
    """Gives the true poses, moved by a share of the box; made-up ones where nothing is there if wanted."""

    def __init__(self, scenes: Sequence[PoseScene], *, shift: float = 0.0, ghosts: bool = False) -> None:
        self.scenes = scenes
        self.shift = shift
        self.ghosts = ghosts
        self.calls = count()

    def pose(
        self,
        image: list[Image.Image],
        label: list[list[str]],
        keypoints: list[list[str]],
        *,
        threshold: float | None = None,
    ) -> list[Poses]:
        assert [kind for (kind,) in label] == [scene.kind for scene in self.scenes]
        return [self._of(scene, names) for scene, names in zip(self.scenes, keypoints, strict=True)]

    def _of(self, scene: PoseScene, names: list[str]) -> Poses:
        truths = scene.truths
        if self.ghosts and not truths:
            truths = pose_scene_with_truth().truths
        poses = []
        for item in truths:
            step = self.shift * max(item.box.width, item.box.height)
            points = tuple(
                Keypoint(name=name, x=x + step, y=y, score=0.9, visible=flag == 2)
                for name, (x, y, flag) in zip(names, item.keypoints, strict=True)
            )
            poses.append(Pose(label=scene.kind, score=0.9, box=item.box, keypoints=points))
        return Poses(width=scene.image.width, height=scene.image.height, poses=tuple(poses))


def pose_scene_with_truth() -> PoseScene:
    return next(scene for sample in held_out_samples(30) if (scene := pose_scene(sample)).truths)


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return list(held_out_samples(16))


@pytest.fixture(scope="module")
def scenes(samples: list[Sample]) -> list[PoseScene]:
    return [pose_scene(sample) for sample in samples]


def test_the_scenes_hold_both_kinds_and_empty_ones(samples: list[Sample], scenes: list[PoseScene]) -> None:
    assert {scene.kind for scene in scenes if scene.truths} == {"person", "dog"}
    assert any(not scene.truths for scene in scenes)
    again = pose_scene(samples[0])
    assert again.kind == scenes[0].kind
    assert (np.asarray(again.image) == np.asarray(scenes[0].image)).all()


def test_the_truth_is_perfect(samples: list[Sample], scenes: list[PoseScene]) -> None:
    skill = PoseSkill()
    skill.measure(Knowing(scenes), samples)  # type: ignore[arg-type]
    report = skill.report()
    for name in ("oks_ap", "oks_ap50", "pck", "visible"):
        assert report.figures[name] == pytest.approx(1.0), name
    assert report.figures["false_positive_rate"] == 0.0
    assert report.slices["kind"]["person"]["oks_ap"] == pytest.approx(1.0)
    assert report.counts["figures"] == sum(len(scene.truths) for scene in scenes)


def test_far_poses_and_ghosts_count_against(samples: list[Sample], scenes: list[PoseScene]) -> None:
    near, far = PoseSkill(), PoseSkill()
    near.measure(Knowing(scenes, shift=0.03), samples)  # type: ignore[arg-type]
    far.measure(Knowing(scenes, shift=0.3, ghosts=True), samples)  # type: ignore[arg-type]
    close, lost = near.report().figures, far.report().figures
    assert close["pck"] == pytest.approx(1.0)
    assert close["oks_ap"] == pytest.approx(0.5, abs=0.4)
    assert lost["pck"] == 0.0
    assert lost["oks_ap"] == pytest.approx(0.0, abs=0.01)
    assert lost["false_positive_rate"] == 1.0
