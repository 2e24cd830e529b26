"""Training for few steps: where the time steps lie, and what errors count."""

from __future__ import annotations

import pytest
import torch

from visionllm_tools.diffusion.few_steps import MostlyNoise, clean_error


def test_sampling_starts_where_training_often_is() -> None:
    steps = MostlyNoise(torch.Generator().manual_seed(0)).steps(4000, 1000)
    assert steps.min() >= 1
    assert steps.max() < 1000
    assert 0.35 < (steps >= 880).float().mean() < 0.55


def test_errors_count_as_errors_of_the_picture() -> None:
    assert clean_error(torch.tensor([500, 100])).flatten().tolist() == pytest.approx([0.25, 0.01])
    places = torch.ones(1, 1, 2, 2)
    places[0, 0, 1, 0] = 3
    weights = clean_error(torch.tensor([500]), places)
    assert weights.flatten().tolist() == pytest.approx([0.25, 0.25, 0.75, 0.25])


def test_a_single_step_wants_more_of_pure_noise() -> None:
    steps = MostlyNoise(torch.Generator().manual_seed(0), pure=1.0).steps(400, 1000)
    assert steps.min() >= 880
