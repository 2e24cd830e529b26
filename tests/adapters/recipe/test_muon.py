from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from visionllm_adapters.recipe import muon as module
from visionllm_adapters.recipe.muon import Float32Muon, muon, orthogonal


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 24), st.integers(2, 24), st.integers(0, 99))
def test_steps_are_nearly_orthogonal(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))
    found = orthogonal(matrix, 5)
    values = torch.linalg.svdvals(found)
    assert found.shape == matrix.shape
    assert float(values.max()) < 1.4
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    assert float((found * (left @ right)).sum()) > 0.5 * min(rows, columns)


@pytest.mark.parametrize("shape", [(12, 6), (6, 12), (8, 8)])
def test_it_moves_as_torch_does(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    weight = torch.randn(shape)
    settings = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    own, theirs = nn.Parameter(weight.clone()), nn.Parameter(weight.clone())
    ours = Float32Muon([own], **settings, steps=5)
    library = torch.optim.Muon([theirs], **settings, ns_steps=5)
    for _ in range(4):
        gradient = torch.randn(shape)
        for parameter, optimiser in ((own, ours), (theirs, library)):
            parameter.grad = gradient.clone()
            optimiser.step()
        moved = (theirs - weight).detach().norm()
        assert float((own - theirs).detach().norm()) < 0.03 * float(moved)  # it rounds to bfloat16


def test_saved_states_are_those_of_torch() -> None:
    parameter = nn.Parameter(torch.randn(4, 6))
    library = torch.optim.Muon([parameter], lr=0.1)
    parameter.grad = torch.randn(4, 6)
    library.step()
    ours = Float32Muon([parameter], lr=0.2)
    ours.load_state_dict(library.state_dict())
    kept = ours.state[parameter]["momentum_buffer"]
    torch.testing.assert_close(kept, library.state[parameter]["momentum_buffer"])
    ours.step()


def test_which_one_is_used_depends_on_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    given_to = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.0, "steps": 4}
    for native, kind in ((True, torch.optim.Muon), (False, Float32Muon)):
        monkeypatch.setattr(module, "native_bfloat16", lambda native=native: native)
        assert type(muon([nn.Parameter(torch.zeros(2, 2))], **given_to)) is kind


def test_a_step_returns_what_its_closure_says() -> None:
    parameter = nn.Parameter(torch.ones(2, 2))
    optimiser = Float32Muon([parameter], lr=0.1)

    def loss() -> float:
        parameter.grad = torch.eye(2)
        return 3.0

    assert optimiser.step(loss) == 3.0
    assert optimiser.step() is None
