"""Where parts go, what they take, and which decoders wait."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from visionllm_sdk import VisionLLM
from visionllm_sdk.errors import CheckpointError, ConfigError
from visionllm_sdk.model.assembly import Model, load_model
from visionllm_sdk.model.lazy import LazyKind, LazyTools
from visionllm_sdk.model.placement import Placement
from visionllm_sdk.model.skeleton import ParametersStayEmpty
from visionllm_sdk.registry import discover_tools
from visionllm_tools.detection.tool import DetectionTool

CPU, META = torch.device("cpu"), torch.device("meta")


def load(folder: Path, lazy: bool = True, **settings: object) -> Model:
    return load_model(folder, registry=discover_tools(), placement=Placement(**settings), lazy=lazy)


def test_every_part_goes_to_its_device(random_checkpoint: Path) -> None:
    """The meta device stands for another GPU: nothing is computed here."""
    model = load(random_checkpoint, parts={"decoders": META}, lazy=False)
    assert {value.device for value in model.core.parameters()} == {CPU}
    assert {value.device for value in model.tools["detect"].decoder.parameters()} == {META}
    other = load(random_checkpoint, device=META, parts={"detect": CPU}, lazy=False)
    assert {value.device.type for value in other.core.parameters()} == {"meta"}
    assert {value.device for value in other.tools["detect"].decoder.parameters()} == {CPU}
    assert {value.dtype for value in other.core.parameters()} == {torch.bfloat16}  # of any other device
    assert {value.dtype for value in other.tools["detect"].decoder.parameters()} == {torch.float32}


def test_parts_that_are_not_there(random_checkpoint: Path) -> None:
    with pytest.raises(ConfigError, match=r"device_map names parts.*fly.*language, decoders, detect"):
        load(random_checkpoint, parts={"fly": CPU})
    with pytest.raises(ConfigError, match="unknown quantization"):
        Placement(quantization="int3")


def test_the_facade_passes_its_settings_on(random_checkpoint: Path) -> None:
    vlm = VisionLLM.from_pretrained(random_checkpoint, device_map={"detect": "cpu"}, offload=True)
    assert vlm.engine.model.placement.parts == {"detect": CPU}
    assert vlm.engine.model.placement.offload
    with pytest.raises(ConfigError, match=r"unknown settings of loading.*ofload"):
        VisionLLM.from_pretrained(random_checkpoint, ofload=True)
    with pytest.raises(ConfigError, match="device_map says for each part"):
        VisionLLM.from_pretrained(random_checkpoint, device_map="auto")
    with pytest.raises(ConfigError, match="cannot run on this device"):
        VisionLLM.from_pretrained(random_checkpoint, device_map={"detect": "cuda:9"})


def test_memory_says_what_each_part_takes(random_checkpoint: Path) -> None:
    vlm = VisionLLM.from_pretrained(random_checkpoint)
    before = vlm.memory()
    assert [part.name for part in before.parts][:2] == ["vision encoder", "bridge"]
    assert before["detect"].state == "not loaded"
    assert before["detect"].bytes == 0
    vlm.detect(Image.new("RGB", (8, 8)), ["star"])
    after = vlm.memory()
    detector = vlm.engine.model.tools["detect"].decoder
    assert after["detect"].state == "loaded"
    assert after["detect"].parameters == before["detect"].parameters
    assert after["detect"].parameters == sum(value.numel() for value in detector.parameters())
    assert after["detect"].bytes >= 4 * after["detect"].parameters
    assert after["language model"].bytes >= 4 * after["language model"].parameters
    assert after.devices == {"cpu": after.bytes}
    assert after.bytes == before.bytes + after["detect"].bytes
    assert "detect" in str(after)
    assert after.as_dict()["bytes"] == after.bytes


class Movable(nn.Linear):
    """Remembers where it was sent."""

    def __init__(self) -> None:
        super().__init__(2, 2)
        self.way: list[str] = []

    def to(self, device: torch.device) -> Movable:
        self.way.append(device.type)
        return self


def movable_tools(offload: bool, home: torch.device = META) -> tuple[LazyTools, dict[str, Movable]]:
    decoders = {name: Movable() for name in ("a", "b")}
    kinds = {
        name: LazyKind(
            kind=DetectionTool, device=home, parameters=6, build=lambda one=decoder: DetectionTool(one)
        )
        for name, decoder in decoders.items()
    }
    return LazyTools(kinds, offload=offload), decoders


def test_idle_decoders_wait_in_main_memory() -> None:
    tools, decoders = movable_tools(offload=True)
    with tools.in_use({"a"}) as used:
        assert list(used) == ["a"]
    with tools.in_use({"b"}):
        assert decoders["a"].way == ["cpu"]
        assert [part.state for part in tools.memory()] == ["parked", "loaded"]
    with tools.in_use({"a"}):
        assert decoders["a"].way == ["cpu", "meta"]
        assert decoders["b"].way == ["cpu"]
    with tools.in_use({"a", "b"}):
        assert decoders["a"].way == ["cpu", "meta"]
        assert decoders["b"].way == ["cpu", "meta"]


@pytest.mark.parametrize(("offload", "home"), [(False, META), (True, CPU)])
def test_decoders_stay_where_nothing_is_gained(offload: bool, home: torch.device) -> None:
    tools, decoders = movable_tools(offload, home)
    for name in ("a", "b", "a"):
        with tools.in_use({name}):
            pass
    assert decoders["a"].way == decoders["b"].way == []


# -- modules without a start -------------------------------------------------------------------------------


class Whole(nn.Module):
    """Parameters of many kinds, and buffers that no file stores."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(3)
        self.own = nn.Parameter(torch.full((2,), 5.0))
        nn.init.normal_(self.linear.weight)  # a truncated draw happens beside the parameter, and stays
        nn.init.constant_(self.own, 7.0)
        self.own.requires_grad_(False)
        self.register_buffer("table", torch.zeros(4).fill_(3.0), persistent=False)


def test_parameters_are_not_filled_and_buffers_are() -> None:
    state = torch.get_rng_state()
    with ParametersStayEmpty():
        whole = Whole()
    assert torch.equal(torch.get_rng_state(), state)  # nothing random was drawn
    assert whole.own.tolist() == [5.0, 5.0]  # the later constant was left out
    assert not whole.own.requires_grad
    assert whole.table.tolist() == [3.0] * 4
    assert Whole().own.tolist() == [7.0, 7.0]


# -- quantised language models -----------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.30), ("int4", 0.20)])
def test_a_quantised_language_model(random_checkpoint: Path, kind: str, share: float) -> None:
    pytest.importorskip("bitsandbytes")
    whole, small = load(random_checkpoint), load(random_checkpoint, quantization=kind)
    ids = torch.arange(1, 25)[None]
    with torch.no_grad():
        expected = whole.core.llm(input_ids=ids).logits
        found = small.core.llm(input_ids=ids).logits
    assert 0 < (found - expected).norm() < 0.35 * expected.norm()
    layers = [sum(value.nbytes for value in one.core.llm.model.layers.parameters()) for one in (whole, small)]
    assert layers[1] < share * layers[0]
    assert small.memory()["language model"].parameters == whole.memory()["language model"].parameters
    assert type(small.core.llm.lm_head) is nn.Linear
    with pytest.raises(CheckpointError, match="quantised weights have no released form"):
        small.save(random_checkpoint / "never")


def test_quantisation_needs_its_library(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from visionllm_sdk.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(MissingExtraError, match=r'pip install "visionllm-sdk\[quant\]"'):
        VisionLLM.from_pretrained(random_checkpoint, quantization="int8")
