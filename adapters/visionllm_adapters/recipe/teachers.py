"""What super-links must come to say: the stand-ins that the decoders learnt from.

Each decoder reads super-links through a small projection of its own. Here the projections and the language
model learn together to say what the stand-ins said; the stand-ins stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoMLPPredictionHead

from visionllm_adapters.recipe.drawing_tokens import EditTokens, SceneTokens, layout_tensors, order_tensors
from visionllm_adapters.recipe.layouts import plan_layout
from visionllm_adapters.recipe.packing import Packed
from visionllm_adapters.recipe.pictures import StandInLabels, name_classes
from visionllm_adapters.recipe.pose_names import CLASSES, StandInPoses
from visionllm_adapters.recipe.symbols import KINDS
from visionllm_adapters.recipe.train_detector import DETECTOR
from visionllm_adapters.recipe.warm import load_aids, saved_module
from visionllm_sdk.scenes.checker import Asked
from visionllm_sdk.scenes.drawing_language import EditWords, Order
from visionllm_tools.detection.config import DetectorConfig
from visionllm_tools.detection.decoder import Detector
from visionllm_tools.diffusion.config import EDITING_PARTS, GENERATION_PARTS, DiffusionConfig
from visionllm_tools.diffusion.decoder import DiffusionDecoder
from visionllm_tools.diffusion.embedded import embedded_section

_WIDTH: Final = 256
_ENOUGH: Final = 4
"""Super-links of a batch that are needed to tell how much what they should say varies."""


class Projections(nn.Module):
    """How each decoder reads super-links, under the names of the decoders' own weights.

    Attributes:
        patch2query: the detector's, of everything it is asked for.
        projection_llava: the pose estimator's, of object classes.
        projection_kpt_llava: the pose estimator's, of keypoint names.
        sd: the drawing decoder's conditioning, without its denoiser.
        ip2p: the editing decoder's.
    """

    def __init__(self) -> None:
        super().__init__()
        width = DETECTOR["d_model"]
        self.patch2query = Detector(DetectorConfig.from_dict(DETECTOR)).patch2query
        self.projection_llava = GroundingDinoMLPPredictionHead(_WIDTH, width, width, 3)
        self.projection_kpt_llava = GroundingDinoMLPPredictionHead(_WIDTH, width, width, 3)
        self.sd = _conditioning(editing=False)
        self.ip2p = _conditioning(editing=True)


def _conditioning(*, editing: bool) -> DiffusionDecoder:
    section = embedded_section(_WIDTH, editing=editing)
    config = DiffusionConfig.from_dict(section, defaults=EDITING_PARTS if editing else GENERATION_PARTS)
    return DiffusionDecoder(config=config, unet=nn.Identity(), vae=nn.Identity())


class Teachers(nn.Module):
    """The stand-ins of all decoders; only those that were given teach.

    Args:
        pose: checkpoint of the pose stage.
        generation: checkpoint of the drawing stage.
        editing: checkpoint of the editing stage.
    """

    def __init__(
        self, *, pose: Path | None = None, generation: Path | None = None, editing: Path | None = None
    ) -> None:
        super().__init__()
        self.names = StandInLabels(DETECTOR["d_model"])
        self.poses = None if pose is None else StandInPoses(DETECTOR["d_model"], noise=0.0)
        self.scenes = None if generation is None else SceneTokens()
        self.edits = None if editing is None else EditTokens()
        for module, path, name in (
            (self.poses, pose, "pose_names"),
            (self.scenes, generation, "ema_tokens"),
            (self.edits, editing, "ema_tokens"),
        ):
            if module is not None and path is not None:
                module.load_state_dict(saved_module(path, name))
        self.requires_grad_(False)

    @classmethod
    def recalled(cls) -> Self:
        """Teachers of a finished model: what its super-links say, from the training aids."""
        aids = load_aids()
        teachers = cls()
        teachers.names.load_state_dict(aids["names"])
        teachers.poses = StandInPoses(DETECTOR["d_model"], noise=0.0)
        name_classes(teachers.poses, teachers.names)
        teachers.scenes, teachers.edits = SceneTokens(), EditTokens()
        teachers.scenes.load_state_dict(aids["scene_tokens"])
        teachers.edits.load_state_dict(aids["edit_tokens"])
        teachers.requires_grad_(False)
        return teachers

    def loss(
        self, projections: Projections, states: Mapping[str, Tensor], batch: Packed
    ) -> tuple[Tensor, dict[str, float]]:
        """How far super-links are from what they should say.

        Args:
            projections: how the decoders read them.
            states: super-links by table, (m, E, C) each.
            batch: what they should say.

        Returns:
            (weighted sum of distances, figures for the log).
        """
        total, figures = torch.zeros(()), {}
        for name, weight, said, wanted, usual in self._pairs(projections, states, batch):
            distance = functional.mse_loss(said, wanted) / usual.var(0).mean().clamp_min(1e-3)
            total = total + weight * distance
            figures[f"{name}distance"] = float(distance.detach())
            cosine = functional.cosine_similarity(said.detach(), wanted, dim=-1)
            figures[f"{name}cosine"] = float(cosine.mean())
        return total, figures

    def _pairs(
        self, projections: Projections, states: Mapping[str, Tensor], batch: Packed
    ) -> list[tuple[str, float, Tensor, Tensor, Tensor]]:
        """(name, weight, what is said, what should be said, what it varies like) of all that is asked."""
        pairs: list[tuple[str, float, Tensor, Tensor, Tensor]] = []
        detected, pointed = states["det"].float(), states["pose"].float()
        if len(detected) >= _ENOUGH:
            wanted = self.names(batch.link_attributes, batch.link_boxes, batch.link_has_box)
            pairs.append(("", 0.5, projections.patch2query(detected).mean(1), wanted, wanted))
        if self.poses is not None and len(detected):
            wanted = self.poses.classes(class_rows(batch.link_attributes))
            said = projections.projection_llava(detected).mean(1)
            pairs.append(("class_", 0.1, said, wanted, self.poses.classes.weight))
        if self.poses is not None and len(pointed):
            wanted = self.poses.keypoints(batch.keypoints)
            said = projections.projection_kpt_llava(pointed).mean(1)
            pairs.append(("keypoint_", 0.25, said, wanted, self.poses.keypoints.weight))
        if self.scenes is not None and batch.orders["gen"]:
            wanted = self.scenes(*layout_tensors([plan_layout(_asked(one)) for one in batch.orders["gen"]]))
            said = projections.sd.condition(states["gen"].float())
            pairs.append(("draw_", 0.5, said, wanted, _everything(wanted)))
        if self.edits is not None and batch.orders["edit"]:
            orders = [_edit_order(one) for one in batch.orders["edit"]]
            said = projections.ip2p.condition(states["edit"].float())
            wanted = self.edits(*order_tensors(orders))
            pairs.append(("edit_", 0.5, said, wanted, _everything(wanted)))
        return pairs


def class_rows(attributes: Tensor) -> Tensor:
    """(m, 3) kind, colour and size -> (m,) rows of `StandInPoses.classes`."""
    rows = torch.full((len(attributes),), len(CLASSES))
    for row, kind in enumerate(CLASSES):
        rows[attributes[:, 0] == KINDS.index(kind)] = row
    return rows


def _everything(tokens: Tensor) -> Tensor:
    """(B, Q, C) normalised tokens -> (B * Q * C, 1): those of one picture may all be alike."""
    return tokens.reshape(-1, 1)


def _asked(order: Order) -> Asked:
    assert isinstance(order, Asked)
    return order


def _edit_order(order: Order) -> EditWords:
    assert isinstance(order, EditWords)
    return order
