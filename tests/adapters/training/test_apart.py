"""Classes that are all alike to a language model are told apart."""

from __future__ import annotations

import torch
from torch import Tensor

from visionllm_adapters.training.apart import likeness
from visionllm_sdk import VisionLLM
from visionllm_sdk.tool import SuperLink, ToolRequest
from visionllm_tools.detection.options import DetectionOptions
from visionllm_tools.detection.tool import DetectionTool


def tool() -> DetectionTool:
    found = VisionLLM.from_pretrained(tools=["detect"], dtype="float32").engine.model.tools["detect"]
    assert isinstance(found, DetectionTool)
    return found


def request(states: dict[str, Tensor], token: str = "[DET]") -> ToolRequest[DetectionOptions]:
    links = tuple(SuperLink(token=token, label=label, states=one) for label, one in states.items())
    return ToolRequest(token=token, links=links, options=DetectionOptions())


def test_what_is_alike_is_parted() -> None:
    detect = tool()
    width = detect.decoder.config.l_hidden_size
    first = torch.randn(4, width, generator=torch.Generator().manual_seed(0))
    second = first + 1e-3 * torch.randn(4, width, generator=torch.Generator().manual_seed(1))
    states = [first.clone().requires_grad_(), second.clone().requires_grad_()]
    before = likeness(detect, [request({"gear": states[0]}), request({"house": states[1]}, "[SEG]")]).detach()
    assert 0.6 < float(before) <= 0.63
    optimiser = torch.optim.Adam(states, lr=0.02)
    for _ in range(60):
        optimiser.zero_grad()
        likeness(detect, [request({"gear": states[0], "house": states[1]})]).backward()
        optimiser.step()
    after = likeness(detect, [request({"gear": states[0], "house": states[1]})]).detach()
    assert float(after) < 0.02


def test_one_class_and_expressions_are_like_nothing() -> None:
    detect = tool()
    states = torch.ones(4, detect.decoder.config.l_hidden_size)
    assert float(likeness(detect, [])) == 0
    assert float(likeness(detect, [request({"Gear": states}), request({"gear": states})])) == 0
    said = {"the left gear": states, "the gear on the left": states}
    assert float(likeness(detect, [request(said, "[GRD]")])) == 0
