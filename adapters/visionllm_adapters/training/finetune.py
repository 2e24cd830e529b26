"""`finetune`: labelled data in, an adapter and a report out."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visionllm_adapters.base import base_fingerprint
from visionllm_adapters.data.check import check
from visionllm_adapters.data.formats import Source, has_own_split, read_data
from visionllm_adapters.data.records import DataSet
from visionllm_adapters.folder import check_target
from visionllm_adapters.reporting.report import FinetuneReport
from visionllm_adapters.training.curriculum import LESSONS
from visionllm_adapters.training.job import Job
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_sdk.errors import InputError

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

_REPLAY, _REPLAY_DETECTED = 0.375, 0.5
"""Shares of replayed scenes, the second where the detector learns: what it knows drifts the most."""
_DRAWING_RATE: Final = 1e-4


def finetune(
    data: Source,
    *,
    output: str | os.PathLike[str],
    images: str | os.PathLike[str] | None = None,
    val: Source | None = None,
    val_images: str | os.PathLike[str] | None = None,
    skill: str | Sequence[str] = "detect",
    model: str | os.PathLike[str] | None = None,
    device: str | None = None,
    skip_faulty: bool = False,
    resume: bool = True,
    base_scenes: int = 24,
    quiet: bool = False,
    **settings: Any,
) -> FinetuneReport:
    """Teach a model one's own domain.

    The same command goes on where a killed run stopped. Run it under `accelerate launch` for several
    processes, devices or nodes.

    Args:
        data: annotations of any format of `read_data`.
        output: folder of the adapter; must not exist.
        images: folder of the pictures.
        val: what the result is measured on; without it, the set's own split `val`, else the training pictures
            themselves.
        val_images: folder of its pictures; that of the training pictures if not given.
        skill: what to teach, one skill or several: `detect`, `ground`, `pose`, `vqa`, `caption`; `describe`,
            `classify` and `segment_regions` by region prompts; `generate`, `edit`.
        model: name or folder of the base; None is the embedded model.
        device: where to compute; "cpu" if not given.
        skip_faulty: leave faulty items out, counted, instead of refusing the set.
        resume: whether an unfinished run of the same command goes on.
        base_scenes: scenes on which the base's skills are measured before and after, for the embedded model;
            0 for none.
        quiet: say nothing on standard error.
        settings: see `FinetuneSettings`: `preset`, `minutes`, `steps`, `epochs`, `batch`, ...

    Raises:
        DataError: data that cannot be read, is faulty, shared by both sets, or has nothing for a skill.
        AdapterError: the output exists, or cannot be written.
        ConfigError, InputError: settings that cannot be.
        MissingExtraError: a package of the extra `finetune` is not installed.
    """
    chosen = FinetuneSettings.of(settings)
    target = Path(output)
    check_target(target)
    skills = _skills(skill)
    train, watched = _data(data, images, val, val_images or images, skip_faulty=skip_faulty)
    vlm = _base(model, device, chosen)
    own = model is None or str(model) == "embedded"
    say = _silent if quiet else _speak
    job = Job(
        vlm=vlm,
        train=train,
        watched=watched,
        skills=skills,
        settings=_fitted(chosen, skills, own=own),
        say=say,
        base=base_fingerprint(vlm.engine.model),
        scenes=base_scenes if own else 0,
    )
    say(f"{train.name}: {len(train)} pictures; measured on {watched.name}: {len(watched)}")
    report = job.run(target, resume=resume)
    if report.skills:
        say(f"saved {target}")
    return report


def _fitted(settings: FinetuneSettings, skills: Sequence[str], *, own: bool) -> FinetuneSettings:
    """Settings with what was left open: replay for the embedded model, a lower rate for pictures alone."""
    if settings.replay is None:
        detects = any("detect" in LESSONS[name].tools for name in skills)
        share = _REPLAY_DETECTED if detects else _REPLAY
        settings = replace(settings, replay=share if own else 0.0)
    if settings.lora_rate is None and set(skills) <= {"generate", "edit"}:
        settings = replace(settings, lora_rate=_DRAWING_RATE)
    return settings


def _skills(skill: str | Sequence[str]) -> tuple[str, ...]:
    names = (skill,) if isinstance(skill, str) else tuple(dict.fromkeys(skill))
    unknown = [name for name in names if name not in LESSONS]
    if unknown or not names:
        raise InputError(
            "this skill cannot be taught from labelled pictures",
            value=unknown[0] if unknown else "none",
            limit=", ".join(LESSONS),
        )
    return names


def _data(
    data: Source, images: Any, val: Source | None, val_images: Any, *, skip_faulty: bool
) -> tuple[DataSet, DataSet]:
    """Both sets, checked before any time is spent; the training set twice if there is no other."""
    train = read_data(data, images=images).usable(skip_faulty=skip_faulty)
    if val is None and isinstance(data, str | os.PathLike) and has_own_split(data):
        val = data
    if val is None:
        check(train, sheet=0).raise_if_broken()
        return train, train
    watched = read_data(val, images=val_images, split="val").usable(skip_faulty=skip_faulty)
    if watched.fingerprint == train.fingerprint:
        return train, watched
    check(train, watched, sheet=0).raise_if_broken()
    return train, watched


def _base(model: str | os.PathLike[str] | None, device: str | None, settings: FinetuneSettings) -> VisionLLM:
    from visionllm_sdk import VisionLLM

    more: dict[str, Any] = {} if settings.quantization is None else {"quantization": settings.quantization}
    return VisionLLM.from_pretrained(model, device=device, **more)


def _speak(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _silent(_: str) -> None:
    """Nothing."""
