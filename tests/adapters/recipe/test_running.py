from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from visionllm_adapters.recipe.running import Averages, Run, schedule
from visionllm_adapters.recipe.warm import part, save_aids, saved_module, warm_start
from visionllm_sdk.errors import CheckpointError


def test_schedule_warms_up_stays_and_falls() -> None:
    assert schedule(0.0) == pytest.approx(0.01)
    assert schedule(0.3) == 1.0
    assert schedule(0.75) == pytest.approx(0.51, abs=0.01)
    assert schedule(1.0) == pytest.approx(0.02)


def trained(folder: Path, *, steps: int, minutes: float = 1e6) -> tuple[nn.Linear, Run]:
    torch.manual_seed(3)
    model = nn.Linear(4, 1)
    run = Run(folder, {"model": model}, [torch.optim.AdamW(model.parameters(), lr=0.1)], minutes, every=0.0)
    for step in run.steps(dict):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(8, 4, generator=generator)
        run.update((model(x) - x.sum(1, keepdim=True)).square().mean())
        if step + 1 >= steps:
            run.elapsed = 1e12
    return model, run


def restart_clock(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)  # noqa: TID251 - the run's own file
    state["elapsed"] = 0.0
    torch.save(state, checkpoint)


def test_a_stopped_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "whole", steps=6)
    trained(tmp_path / "parts", steps=3)
    restart_clock(tmp_path / "parts" / "last.pt")
    resumed, run = trained(tmp_path / "parts", steps=6)
    assert run.step == 6
    assert torch.allclose(whole.weight, resumed.weight, atol=1e-6)


def test_reports_are_json_lines(tmp_path: Path) -> None:
    trained(tmp_path, steps=2)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2]


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path: Path) -> None:
    model = nn.Linear(1, 1)
    run = Run(tmp_path, {"model": model}, [torch.optim.SGD(model.parameters(), lr=1.0)], 1.0)
    with pytest.raises(FloatingPointError, match="step 0"):
        run.update(model.weight.sum() * float("nan"))


def test_averages() -> None:
    seen = Averages()
    seen.add(loss=1.0)
    seen.add(loss=2.0, right=1.0)
    assert seen.take() == {"loss": 1.5, "right": 1.0}
    assert seen.take() == {}


def test_a_missing_stage_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="Run that stage first"):
        saved_module(tmp_path / "last.pt", "model")


def test_aids_come_back(tmp_path: Path) -> None:
    names = nn.Linear(2, 2)
    save_aids({"names": names.state_dict()}, tmp_path / "aids.safetensors")
    other = nn.Linear(2, 2)
    warm_start(tmp_path, aids=tmp_path / "aids.safetensors", names=other)
    assert torch.allclose(names.weight, other.weight, atol=1e-3)
    kept = nn.Linear(2, 2)
    before = kept.weight.clone()
    warm_start(
        tmp_path, aids=tmp_path / "aids.safetensors", optional={"names": other, "region_encoder": kept}
    )
    assert torch.equal(kept.weight, before)
    with pytest.raises(CheckpointError, match="llm"):
        warm_start(tmp_path, aids=tmp_path / "aids.safetensors", llm=other)
    assert part({"a.b": names.weight, "c": names.bias}, "a.").keys() == {"b"}
