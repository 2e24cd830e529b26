from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from visionllm_sdk import VisionLLM
from visionllm_sdk.model.home import starts_in_main_memory


@pytest.fixture(
    params=[
        lambda: torch.set_default_device("meta"),
        lambda: torch.set_default_dtype(torch.float64),
    ],
    ids=["device", "dtype"],
)
def another_default(request: pytest.FixtureRequest) -> Iterator[Callable[[], None]]:
    yield request.param
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


def test_the_default_of_the_program_comes_back() -> None:
    with torch.device("meta"):
        with starts_in_main_memory():
            assert torch.zeros(1).device.type == "cpu"
        assert torch.zeros(1).device.type == "meta"


def test_defaults_of_the_program_change_no_result(
    random_checkpoint: Path, another_default: Callable[[], None]
) -> None:
    image = Image.linear_gradient("L").resize((48, 40)).convert("RGB")
    results = []
    for prepare in (lambda: None, another_default):
        prepare()
        vlm = VisionLLM.from_pretrained(random_checkpoint)
        results.append((vlm.detect(image, ["star"], threshold=0.0), vlm.ask(image, "What is it?")))
    assert results[0] == results[1]
    assert len(results[0][0]) > 0
