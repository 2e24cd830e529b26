"""`finetune`: labelled data in, an adapter and a report out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visionllm_adapters.base import base_fingerprint
from visionllm_adapters.data.check import check
from visionllm_adapters.data.formats import Source, has_own_split, read_data
from visionllm_adapters.data.records import DataSet
from visionllm_adapters.folder import Manifest, check_target, write_folder
from visionllm_adapters.reporting.report import FinetuneReport, SkillChange
from visionllm_adapters.reporting.writing import write_report
from visionllm_adapters.scoring.measures import MEASURES
from visionllm_adapters.scoring.score import Score
from visionllm_adapters.training.batches import Schedule
from visionllm_adapters.training.curriculum import LESSONS
from visionllm_adapters.training.decoder_losses import fit_losses
from visionllm_adapters.training.lessons import Classroom, Lesson
from visionllm_adapters.training.logs import CURVES, LOG, draw_curves
from visionllm_adapters.training.loop import Ingredients, Loop
from visionllm_adapters.training.selection import NAME, Learning, prepare
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_adapters.training.sizes import InputSizes
from visionllm_adapters.training.state import Progress, RunFolder
from visionllm_adapters.training.trainee import Trainee
from visionllm_sdk.errors import InputError

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

_WATCHED: Final = 48
"""Validation pictures that are measured while training; the report measures all."""
_REPLAY: Final = 0.25


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
    start = time.monotonic()
    chosen = FinetuneSettings.of(settings)
    target = Path(output)
    check_target(target)
    skills = _skills(skill)
    say = _silent if quiet else _speak
    train, watched = _data(data, images, val, val_images or images, skip_faulty=skip_faulty)
    vlm = _base(model, device, chosen)
    own = model is None or str(model) == "embedded"
    chosen = replace(chosen, replay=(_REPLAY if own else 0.0) if chosen.replay is None else chosen.replay)
    base = base_fingerprint(vlm.engine.model)
    job = _Job(
        vlm=vlm, train=train, watched=watched, skills=skills, settings=chosen, say=say, base=base,
        scenes=base_scenes if own else 0,
    )  # fmt: skip
    folder = RunFolder(target, job.identity())
    resumed = folder.open(resume=resume)
    say(f"{train.name}: {len(train)} pictures; measured on {watched.name}: {len(watched)}")
    before = job.scores(folder, "before")
    kept = job.base_skills(folder, "before")
    loop, learning = job.loop(folder, resumed=resumed)
    progress = loop.run()
    if not loop.accelerator.is_main_process:
        return _Job.brief(skills, progress)
    after, held = job.scores(None, "after"), job.base_skills(None, "after")
    report = FinetuneReport(
        skills={name: SkillChange(before[name], after[name]) for name in before},
        base_before=kept,
        base_after=held,
        progress=progress,
        settings=chosen,
        train=train,
        watched=watched,
        parameters=sum(p.numel() for p in learning.parameters().values()),
        seconds=time.monotonic() - start,
        path=target,
    )
    _write(target, job, folder, learning, report)
    folder.close()
    say(f"saved {target}")
    return report


@dataclass(frozen=True, kw_only=True)
class _Job:
    """A run before and after its loop."""

    vlm: VisionLLM
    train: DataSet
    watched: DataSet
    skills: tuple[str, ...]
    settings: FinetuneSettings
    say: Any
    base: str
    scenes: int

    def identity(self) -> dict[str, Any]:
        """What makes a run the same run."""
        return {
            "settings": self.settings.as_dict(),
            "skills": list(self.skills),
            "data": self.train.fingerprint,
            "validation": self.watched.fingerprint,
            "base": self.base,
        }

    def loop(self, folder: RunFolder, *, resumed: bool) -> tuple[Loop, Learning]:
        model, settings = self.vlm.engine.model, self.settings
        room = Classroom(model=model, flip=settings.flip, zoom=settings.zoom)
        lessons: list[Lesson] = [LESSONS[name](self.train, room) for name in self.skills]
        tools = list(dict.fromkeys(tool for lesson in lessons for tool in lesson.tools))
        judged = "detect" in model.registry and bool(settings.replay) and "detect" not in tools
        judges = [*tools, *(["detect"] if judged else [])]
        regions = any(lesson.regions for lesson in lessons)
        learning = prepare(model, settings, tools, judges=judges, regions=regions)
        fit_losses(model, judges, settings)
        schedule = Schedule(
            lessons, room, batch=settings.batch, replay=settings.replay or 0.0, seed=settings.seed
        )
        parts = Ingredients(
            trainee=Trainee(model, judges),
            learning=learning,
            schedule=schedule,
            sizes=InputSizes(model, judges, share=settings.small, seed=settings.seed),
            settings=settings,
            folder=folder,
            validate=self.validate,
            say=self.say,
        )
        return Loop(parts, resume=resumed), learning

    def validate(self) -> tuple[float, dict[str, float]]:
        """The mean task metric over the skills, on the first watched pictures."""
        part = replace(self.watched, records=self.watched.records[:_WATCHED])
        scores = [self._score(name, part) for name in self.skills if name in MEASURES]
        figures = {f"{one.skill}_{one.metric}": one.value for one in scores}
        return sum(one.value for one in scores) / max(1, len(scores)), figures

    def _score(self, skill: str, data: DataSet) -> Score:
        from visionllm_sdk import VisionLLM

        # A new facade each time: what an engine remembers was read by the model as it was then.
        fresh = VisionLLM(self.vlm.engine.model, name=self.vlm.name)
        return MEASURES[skill](fresh, data, adapter=None, batch=16)

    def scores(self, folder: RunFolder | None, word: str) -> dict[str, Score]:
        """All watched pictures, every skill; kept in the run's folder, so that it is measured once."""
        found = {}
        for name in self.skills:
            place = None if folder is None else folder.path / word / name
            known = None if place is None else Score.read(place)
            if known is None:
                known = self._score(name, self.watched)
                self.say(f"{word}: {name} {known.metric} {known.value:.3f}")
                if place is not None:
                    known.write(place)
            found[name] = known
        return found

    def base_skills(self, folder: RunFolder | None, word: str) -> dict[str, float]:
        """What the base could do already, on held-out scenes."""
        import json

        if not self.scenes:
            return {}
        place = None if folder is None else folder.path / f"{word}.json"
        if place is not None and place.is_file():
            return dict(json.loads(place.read_text(encoding="utf-8")))
        from visionllm_sdk import VisionLLM
        from visionllm_sdk.evaluation import run

        fresh = VisionLLM(self.vlm.engine.model, name=self.vlm.name)
        names = ("detection", "grounding", "vqa", "caption")
        measured = run(fresh, scenes=self.scenes, skills=names, progress=False)
        figures = {
            f"{name}.{figure}": value
            for name, report in measured.skills.items()
            for figure, value in report.figures.items()
            if figure in {"box_ap50", "acc50", "accuracy", "f1"} and value is not None
        }
        if place is not None:
            place.write_text(json.dumps(figures), encoding="utf-8")
        return figures

    @staticmethod
    def brief(skills: tuple[str, ...], progress: Progress) -> FinetuneReport:
        """What a process that is not the first one knows."""
        return FinetuneReport(skills={}, progress=progress, settings=FinetuneSettings())


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


def _write(target: Path, job: _Job, folder: RunFolder, learning: Learning, report: FinetuneReport) -> None:
    manifest = Manifest(
        base=job.base,
        base_name=job.vlm.name,
        skills=job.skills,
        labels=job.train.labels,
        training=job.settings.as_dict(),
        data={
            "train": {
                "name": job.train.name,
                "pictures": len(job.train),
                "fingerprint": job.train.fingerprint,
            },
            "validation": {
                "name": job.watched.name,
                "pictures": len(job.watched),
                "fingerprint": job.watched.fingerprint,
            },
            "skipped": len([fault for fault in job.train.faults if fault.severity == "error"]),
        },
        metrics=report.figures(),
    )

    def extra(place: Path) -> None:
        (place / LOG).write_bytes((folder.path / LOG).read_bytes())
        draw_curves(place / LOG, place / CURVES)
        write_report(report, place, manifest)

    def lora(place: Path) -> None:
        learning.peft.save_pretrained(str(place), selected_adapters=[NAME], save_embedding_layers=False)

    whole = {key: value.detach().cpu() for key, value in learning.whole.items()}
    write_folder(target, manifest, lora=lora, modules=whole, extra=extra)


def _speak(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _silent(_: str) -> None:
    """Nothing."""
