"""The loop: kills, memory, full disks, and settings that cannot be."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.adapters.conftest import QUICK
from visionllm_adapters import finetune
from visionllm_adapters.data import read_data
from visionllm_adapters.folder import LORA, MODULES
from visionllm_adapters.training import job as jobs
from visionllm_adapters.training import loop as loops
from visionllm_adapters.training.job import Job
from visionllm_adapters.training.logs import Log, read_log
from visionllm_adapters.training.loop import learning_rate, out_of_memory
from visionllm_adapters.training.pictures import seen
from visionllm_adapters.training.settings import FinetuneSettings
from visionllm_adapters.training.trainee import Trainee
from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import AdapterError, ConfigError, DataError, InputError


class Killed(BaseException):
    """As a signal would end the process: nothing catches it."""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {**load_file(folder / LORA), **load_file(folder / MODULES)}


def test_a_killed_run_ends_as_one_that_was_not(
    tiny_checkpoint: Path, labels: Path, val_labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {**QUICK, "steps": 3, "save_seconds": 1e-6, "preset": "light", "validate": 3}

    def run(name: str) -> Any:
        return finetune(labels, val=val_labels, output=tmp_path / name, model=tiny_checkpoint, **settings)

    whole = run("whole")
    step = loops.Loop._step
    for kill in (1, 2):

        def killed(self: loops.Loop, kill: int = kill) -> dict[str, float]:
            if self.progress.step == kill:
                raise Killed
            return step(self)

        monkeypatch.setattr(loops.Loop, "_step", killed)
        with pytest.raises(Killed):
            run("killed")
        assert not (tmp_path / "killed").exists()
    monkeypatch.setattr(loops.Loop, "_step", step)
    resumed = run("killed")
    assert not (tmp_path / "killed.training").exists()
    first, second = weights(tmp_path / "whole"), weights(tmp_path / "killed")
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert resumed.figures() == whole.figures()
    logs = [read_log(tmp_path / name / "log.csv") for name in ("whole", "killed")]
    assert [(r["step"], r["name"], r["value"]) for r in logs[0]] == [
        (r["step"], r["name"], r["value"]) for r in logs[1]
    ]


def test_another_command_does_not_go_on(tiny_checkpoint: Path, labels: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out.training"
    folder.mkdir()
    (folder / "run.json").write_text('{"settings": "others"}')
    with pytest.raises(AdapterError, match="unfinished run with other settings"):
        finetune(labels, output=tmp_path / "out", model=tiny_checkpoint, **QUICK)


@pytest.mark.parametrize("name", ["run.json", "state.safetensors"])
def test_a_damaged_state_says_how_to_begin_again(
    tiny_checkpoint: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    settings: dict[str, Any] = {**QUICK, "save_seconds": 1e-6, "preset": "light"}
    step = loops.Loop._step

    def killed(self: loops.Loop) -> dict[str, float]:
        if self.progress.step:
            raise Killed
        return step(self)

    def run(**more: Any) -> Any:
        return finetune(labels, output=tmp_path / "out", model=tiny_checkpoint, **settings, **more)

    monkeypatch.setattr(loops.Loop, "_step", killed)
    with pytest.raises(Killed):
        run()
    monkeypatch.setattr(loops.Loop, "_step", step)
    damaged = tmp_path / "out.training" / name
    damaged.write_bytes(damaged.read_bytes()[:20])
    with pytest.raises(AdapterError, match=r"cannot be read.*--restart"):
        run()
    run(resume=False)
    assert (tmp_path / "out" / "adapter.json").is_file()


def test_a_run_of_other_classes_is_another_run(tiny_checkpoint: Path, labels: Path, tmp_path: Path) -> None:
    data = read_data(labels)
    parts: dict[str, Any] = {"vlm": None, "skills": ("detect",), "say": print, "base": "", "scenes": 0}
    known = [
        Job(train=one, watched=data, settings=FinetuneSettings(), **parts).identity()
        for one in (data, read_data(labels), replace(data, labels=(*data.labels, "fork")))
    ]
    assert known[0] == known[1] != known[2]


def test_a_line_that_a_kill_cut_is_written_again(tmp_path: Path) -> None:
    log = Log(tmp_path)
    log.add(1, 1.0, "loss", {"total": 0.5})
    log.add(2, 2.0, "loss", {"total": 0.25})
    log.close()
    path = tmp_path / "log.csv"
    path.write_bytes(path.read_bytes()[:-4])
    Log(tmp_path, step=1).close()
    assert [row["step"] for row in read_log(path)] == [1]


def test_what_is_watched_says_something_about_the_skill(
    tiny_vlm: VisionLLM, labels: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = read_data(labels)
    empty = [replace(one, things=(), references=(), key=f"empty {n}") for n, one in enumerate(data.records)]
    watched = replace(data, records=(*empty, *data.records))
    monkeypatch.setattr(jobs, "_WATCHED", 4)
    job = Job(
        vlm=tiny_vlm, train=data, watched=watched, skills=("detect", "ground"), settings=FinetuneSettings(),
        say=print, base="", scenes=0,
    )  # fmt: skip
    value, figures = job.validate()
    assert figures.keys() == {"detect_ap50", "ground_acc50"}
    assert value >= 0


def test_out_of_memory_halves_the_portion(
    tiny_checkpoint: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = Trainee.forward

    def too_much(self: Trainee, examples: Any) -> Any:
        if len(examples) > 1:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")
        return forward(self, examples)

    monkeypatch.setattr(Trainee, "forward", too_much)
    settings = {**QUICK, "batch": 4, "micro_batch": 4, "steps": 1, "preset": "light"}
    report = finetune(labels, output=tmp_path / "out", model=tiny_checkpoint, **settings)
    assert report.progress.micro == 1
    assert len(report.progress.notes) == 2
    assert report.by_heart


@pytest.mark.parametrize("lost", [1, 9])
def test_gradients_that_are_no_numbers_are_not_learnt(
    lost: int, tiny_checkpoint: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulate = loops.Loop._accumulate

    def broken(self: loops.Loop, step: int, own: Any) -> dict[str, float]:
        terms = accumulate(self, step, own)
        if step < lost:
            next(p for p in self.parameters.values() if p.grad is not None).grad.fill_(float("nan"))
        return terms

    monkeypatch.setattr(loops.Loop, "_accumulate", broken)
    arguments: dict[str, Any] = {
        "output": tmp_path / "out",
        "model": tiny_checkpoint,
        **QUICK,
        "preset": "light",
    }
    if lost > 1:
        monkeypatch.setattr(loops, "_MOST_LOST", 2)
        with pytest.raises(AdapterError, match="2 steps in a row"):
            finetune(labels, **arguments)
        return
    report = finetune(labels, **arguments)
    assert any("left out" in note for note in report.progress.notes)
    assert all(value.isfinite().all() for value in weights(report.path).values())


def test_a_full_disk_leaves_nothing_behind(
    tiny_checkpoint: Path, labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from visionllm_adapters.training import job as module

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "write_report", full)
    settings = {**QUICK, "steps": 1, "preset": "light"}
    with pytest.raises(AdapterError, match="No space left"):
        finetune(labels, output=tmp_path / "out", model=tiny_checkpoint, **settings)
    assert [path.name for path in tmp_path.iterdir()] == ["out.training"]


def launch(script: Path, output: Path, count: int) -> None:
    """Run a script in several processes: `accelerate launch --cpu` would start one, whatever it is told."""
    many = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(count)]
    subprocess.run([sys.executable, *many, str(script), str(output)], check=True, timeout=120)


@pytest.mark.slow
def test_two_processes_learn_what_one_does(
    tiny_checkpoint: Path, labels: Path, val_labels: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import sys\n"
        "from visionllm_adapters import finetune\n"
        f"finetune({str(labels)!r}, val={str(val_labels)!r}, output=sys.argv[1], "
        f"model={str(tiny_checkpoint)!r}, steps=3, batch=4, micro_batch=2, validate=1, base_scenes=0, "
        "replay=0.0, points=64, precision='fp32', quiet=True)\n"
        "from accelerate import PartialState\n"
        "open(f'{sys.argv[1]}.{PartialState().num_processes}', 'w').close()\n"
    )
    for count in (1, 2):
        launch(script, tmp_path / str(count), count)
        assert (tmp_path / f"{count}.{count}").is_file()
    losses = [
        [r["value"] for r in read_log(tmp_path / str(count) / "log.csv") if r["name"] == "total"]
        for count in (1, 2)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@pytest.mark.slow
def test_processes_go_by_one_clock(
    tiny_checkpoint: Path, labels: Path, val_labels: Path, tmp_path: Path
) -> None:
    script = tmp_path / "train.py"
    script.write_text(
        "import os, sys, time\n"
        "from types import SimpleNamespace\n"
        "from visionllm_adapters import finetune\n"
        "from visionllm_adapters.training import loop\n"
        "if os.environ['RANK'] == '1':\n"
        "    loop.time = SimpleNamespace(monotonic=lambda: 5 * time.monotonic())\n"
        f"finetune({str(labels)!r}, val={str(val_labels)!r}, output=sys.argv[1], "
        f"model={str(tiny_checkpoint)!r}, minutes=0.05, batch=2, micro_batch=1, validate=2, base_scenes=0, "
        "replay=0.0, points=64, precision='fp32', save_seconds=0.7, preset='light', quiet=True)\n"
    )
    launch(script, tmp_path / "out", 2)
    assert (tmp_path / "out" / "adapter.json").is_file()


@pytest.mark.parametrize(
    ("settings", "error", "word"),
    [
        ({"preset": "huge"}, ConfigError, "unknown preset"),
        ({"steps": 0}, ConfigError, "too small"),
        ({"patience": 0}, ConfigError, "patience is too small"),
        ({"minutes": -1.0}, ConfigError, "positive"),
        ({"replay": 1.0}, ConfigError, "share"),
        ({"stops": 3}, ConfigError, "unknown setting"),
        ({"steps": 2.5}, ConfigError, "steps is a whole number"),
        ({"batch": True}, ConfigError, "batch is a whole number"),
        ({"seed": 2**70}, ConfigError, "seed is too large"),
        ({"epochs": float("inf")}, ConfigError, "epochs is no finite number"),
        ({"minutes": "ten"}, ConfigError, "minutes is no finite number"),
        ({"zoom": float("nan")}, ConfigError, "zoom is no finite number"),
        ({"alpha": 0.0}, ConfigError, "alpha must be positive"),
        ({"weight_decay": -1.0}, ConfigError, "weight_decay must not be negative"),
        ({"skill": "juggle"}, InputError, "cannot be taught"),
        ({"skill": "vqa"}, DataError, "holds no questions"),
    ],
)
def test_what_cannot_be_is_refused_at_once(
    tiny_checkpoint: Path, labels: Path, tmp_path: Path, settings: dict[str, Any], error: Any, word: str
) -> None:
    with pytest.raises(error, match=word):
        finetune(labels, output=tmp_path / "out", model=tiny_checkpoint, **{**QUICK, **settings})
    assert not (tmp_path / "out").exists()


def test_the_output_must_be_free(labels: Path, tmp_path: Path) -> None:
    with pytest.raises(AdapterError, match="exists already"):
        finetune(labels, output=tmp_path, **QUICK)


def test_nothing_is_left_of_a_run_that_cannot_begin(
    tiny_checkpoint: Path, labels: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="no questions"):
        finetune(labels, output=tmp_path / "out", model=tiny_checkpoint, skill="vqa", **QUICK)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(AdapterError, match="beside the output"):
        finetune(labels, output=labels / "out", model=tiny_checkpoint, **QUICK)


def test_pictures_and_labels_move_together(labels: Path) -> None:
    record = read_data(labels).records[0]
    changed = 0
    for number in range(12):
        view = seen(record, Random(number), flip=True, zoom=1.4)
        assert len(view.things) == 2
        assert view.size == (96, 64)
        for thing in view.things:
            assert thing.mask is not None
            tight = thing.mask.box
            assert tight is not None
            assert tight.iou(thing.box) > 0.85
            red, _, blue = view.image.getpixel(tuple(map(int, thing.box.center)))  # type: ignore[misc]
            assert (red > blue) == (thing.label == "cup")
        changed += view.things != record.things
    assert changed > 6


def test_the_learning_rate_rises_and_falls() -> None:
    rates = [learning_rate(n / 100, 0.1) for n in range(101)]
    assert rates.index(max(rates)) == 10
    assert rates[0] < 0.05
    assert rates[-1] == pytest.approx(0.05)


def test_what_counts_as_out_of_memory() -> None:
    assert out_of_memory(MemoryError())
    assert out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not out_of_memory(RuntimeError("shapes differ"))
    assert not out_of_memory(ValueError("out of memory"))
    assert FinetuneSettings(preset="light").lora_alpha == 16
