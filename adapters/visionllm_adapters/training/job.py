"""One fine-tuning run: measure, train, measure again, write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from visionllm_adapters.data.faults import errors
from visionllm_adapters.data.records import DataSet
from visionllm_adapters.folder import Manifest, write_folder
from visionllm_adapters.reporting.report import FinetuneReport, SkillChange
from visionllm_adapters.reporting.writing import write_report
from visionllm_adapters.scoring.basics import chunks
from visionllm_adapters.scoring.measures import MEASURES
from visionllm_adapters.scoring.score import Score
from visionllm_adapters.training.batches import Schedule
from visionllm_adapters.training.calibration import (
    TOOL,
    found_from,
    kept_scores,
    known_scores,
    shift_between,
    shift_scores,
)
from visionllm_adapters.training.curriculum import LESSONS
from visionllm_adapters.training.decoder_losses import fit_losses
from visionllm_adapters.training.lessons import Classroom, Lesson
from visionllm_adapters.training.logs import CURVES, LOG, draw_curves
from visionllm_adapters.training.loop import Ingredients, Loop, make_accelerator
from visionllm_adapters.training.memory import Memory
from visionllm_adapters.training.replay import Replay
from visionllm_adapters.training.selection import NAME, Learning, prepare
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_adapters.training.sizes import InputSizes
from visionllm_adapters.training.state import RunFolder, write_json
from visionllm_adapters.training.trainee import Trainee
from visionllm_sdk.errors import DataError

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

_BASE_FIGURES: Final = {
    "detection": "box_ap50", "segmentation": "miou", "grounding": "acc50", "counting": "exact",
    "vqa": "accuracy", "caption": "f1", "routing": "exact", "pose": "oks_ap",
    "region_recognition": "accuracy", "region_description": "f1", "interactive_segmentation": "miou",
    "in_context_segmentation": "miou",
}  # fmt: skip
"""What of the base's skills is measured before and after."""
_STUDIED: Final = 48
"""Pictures that are looked at before anything is learnt."""
_WATCHED: Final = 48
"""Validation pictures that are measured while training; the report measures all."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A run before, in and after its loop.

    Attributes:
        vlm: the model; it learns.
        train: what from.
        watched: what it is measured on.
        skills: what it is taught.
        settings: all numbers.
        say: tells the user what happens.
        base: fingerprint of the model as it came.
        scenes: for the base's own skills; 0: they are not measured.
    """

    vlm: VisionLLM
    train: DataSet
    watched: DataSet
    skills: tuple[str, ...]
    settings: FinetuneSettings
    say: Callable[[str], None]
    base: str
    scenes: int

    def identity(self) -> dict[str, Any]:
        """What makes a run the same run."""
        return {
            "settings": self.settings.as_dict(),
            "skills": list(self.skills),
            "data": _facts(self.train),
            "validation": _facts(self.watched),
            "base": self.base,
            "scenes": self.scenes,
        }

    def run(self, target: Path, *, resume: bool) -> FinetuneReport:
        """Measure, train, measure again, and write the adapter.

        Raises:
            AdapterError: the adapter or the state of the run cannot be written.
        """
        start = time.monotonic()
        room = Classroom(model=self.vlm.engine.model, flip=self.settings.flip, zoom=self.settings.zoom)
        lessons = self.lessons(self.train, room)
        self.lessons(self.watched, room)  # what cannot be taught or measured is refused before anything is
        folder = RunFolder(target, self.identity())
        accelerator = make_accelerator(self.settings, self.vlm.engine.model.core.device)
        first = bool(accelerator.is_main_process)
        with accelerator.main_process_first():  # the others find what the first one made
            resumed = folder.open(resume=resume or not first)
        before = self.scores(folder, "before") if first else {}
        kept = self.base_skills(folder, "before") if first else {}
        known = self._known_scores(folder) if first else []
        loop, learning = self.loop(lessons, room, folder, accelerator, resumed=resumed)
        progress = loop.run()
        report = FinetuneReport(skills={}, progress=progress, settings=self.settings, path=target)
        if not first:
            return report
        shift = self._calibrate(known) if known else 0.0
        after, held = self.scores(None, "after"), self.base_skills(None, "after")
        report = replace(
            report,
            skills={name: SkillChange(before[name], after[name]) for name in before},
            base_before=kept,
            base_after=held,
            train=self.train,
            watched=self.watched,
            parameters=sum(p.numel() for p in learning.parameters().values()),
            seconds=time.monotonic() - start,
            score_shift={TOOL: shift} if shift else {},
        )
        write_adapter(target, self, folder, learning, report)
        folder.close()
        return report

    def _known_scores(self, folder: RunFolder) -> list[float]:
        """What the scores of replayed scenes were; empty where nothing is replayed or detected."""
        if not self.settings.replay or TOOL not in self.vlm.engine.model.registry:
            return []
        return kept_scores(self._fresh(), folder.path / "known_scores.json")

    def _calibrate(self, before: Sequence[float]) -> float:
        """Give the scores of the detector their old meaning; returns by how many logits they are shifted."""
        limit = found_from(self.vlm.engine.model)
        shift = shift_between(before, known_scores(self._fresh()), limit=limit)
        if shift:
            self.say(f"scores of known things moved by {-shift:+.2f} logits, which is taken back")
            shift_scores(self.vlm.engine.model, shift)
        return shift

    def _fresh(self) -> VisionLLM:
        """A new facade: what an engine remembers was read by the model as it was then."""
        from visionllm_sdk import VisionLLM

        return VisionLLM(self.vlm.engine.model, name=self.vlm.name)

    def lessons(self, data: DataSet, room: Classroom) -> list[Lesson]:
        """One lesson for each skill.

        Raises:
            DataError: the data has nothing for a skill.
            InputError: the model has no part that a skill needs.
        """
        return [LESSONS[name](data, room) for name in self.skills]

    def loop(
        self,
        lessons: Sequence[Lesson],
        room: Classroom,
        folder: RunFolder,
        accelerator: Any,
        *,
        resumed: bool,
    ) -> tuple[Loop, Learning]:
        """The loop, and what learns in it."""
        model, settings = self.vlm.engine.model, self.settings
        tools = list(dict.fromkeys(tool for lesson in lessons for tool in lesson.tools))
        learning = prepare(
            model,
            settings,
            tools,
            reads=any(lesson.reads for lesson in lessons),
            regions=any(lesson.regions for lesson in lessons),
        )
        fit_losses(model, tools, settings)
        replay = settings.replay or 0.0
        memory = Memory(model, learning) if replay else None
        trainee = Trainee(model, tools, memory)
        with accelerator.autocast():
            for lesson in lessons:
                if "generate" in lesson.tools:
                    trainee.study(lesson.sample(_STUDIED))
        parts = Ingredients(
            trainee=trainee,
            learning=learning,
            schedule=Schedule(
                lessons,
                Replay(room, frozenset(tools)),
                batch=settings.batch,
                share=replay,
                seed=settings.seed,
            ),
            sizes=InputSizes(model, tools, share=settings.small, seed=settings.seed),
            settings=settings,
            folder=folder,
            validate=self.validate,
            say=self.say,
        )
        return Loop(parts, accelerator, resume=resumed), learning

    def validate(self) -> tuple[float, dict[str, float]]:
        """The mean task metric over the skills, on a few watched pictures."""
        scores = [self._score(name, self._part(name)) for name in self.skills if name in MEASURES]
        figures = {f"{one.skill}_{one.metric}": one.value for one in scores}
        return sum(one.value for one in scores) / max(1, len(scores)), figures

    def _part(self, skill: str) -> DataSet:
        """The first watched pictures in a row that say anything about a skill.

        The very first need not: pictures without objects may come first by their names, captions of one
        skill before the questions of another.
        """
        room = Classroom(model=self.vlm.engine.model)
        for records in chunks(self.watched.records, _WATCHED):
            part = replace(self.watched, records=tuple(records))
            with suppress(DataError):  # which says that these have nothing for the skill
                LESSONS[skill](part, room)
                return part
        return self.watched

    def _score(self, skill: str, data: DataSet) -> Score:
        return MEASURES[skill](self._fresh(), data, adapter=None, batch=16)

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
        if not self.scenes:
            return {}
        place = None if folder is None else folder.path / f"{word}.json"
        if place is not None and place.is_file():
            return dict(json.loads(place.read_text(encoding="utf-8")))
        from visionllm_sdk.evaluation import run

        measured = run(self._fresh(), scenes=self.scenes, skills=tuple(_BASE_FIGURES), progress=False)
        figures = {
            f"{name}.{figure}": value
            for name, figure in _BASE_FIGURES.items()
            if (value := measured.skills[name].figures.get(figure)) is not None
        }
        if place is not None:
            write_json(place, figures)
        return figures


def _facts(data: DataSet) -> list[Any]:
    """What a set teaches: its pictures with their labels, and what classes and keypoints are called."""
    names = {label: list(points) for label, points in data.keypoints.items()}
    return [data.fingerprint, list(data.labels), names]


def _manifest(job: Job, report: FinetuneReport) -> Manifest:
    def facts(data: DataSet) -> dict[str, Any]:
        return {"name": data.name, "pictures": len(data), "fingerprint": data.fingerprint}

    return Manifest(
        base=job.base,
        base_name=job.vlm.name,
        skills=job.skills,
        labels=job.train.labels,
        training=job.settings.as_dict(),
        data={
            "train": facts(job.train),
            "validation": facts(job.watched),
            "skipped": len(errors(job.train.faults)),
        },
        metrics=report.figures(),
        score_shift=report.score_shift,
    )


def write_adapter(
    target: Path, job: Job, folder: RunFolder, learning: Learning, report: FinetuneReport
) -> None:
    """Write the folder of the adapter, with its report."""
    manifest = _manifest(job, report)

    def extra(place: Path) -> None:
        (place / LOG).write_bytes((folder.path / LOG).read_bytes())
        draw_curves(place / LOG, place / CURVES)
        write_report(report, place, manifest)

    def lora(place: Path) -> None:
        learning.peft.save_pretrained(str(place), selected_adapters=[NAME], save_embedding_layers=False)

    whole = {key: value.detach().cpu() for key, value in learning.whole.items()}
    write_folder(target, manifest, lora=lora, modules=whole, extra=extra)
