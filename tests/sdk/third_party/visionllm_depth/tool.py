"""[DEPTH]: how far away is what the label names. Its own token, label tag, query table and decoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from pydantic import BaseModel
from torch import Tensor, nn

from visionllm_sdk.errors import ConfigError
from visionllm_sdk.tool import (
    ForcedLayout,
    QueryTable,
    RoutedTool,
    RoutingToken,
    ToolLoss,
    ToolOptions,
    ToolRequest,
)


class DepthOptions(ToolOptions):
    """Typed arguments."""

    unit: str = "m"


class Depth(BaseModel):
    """Typed result."""

    distances: dict[str, float]
    unit: str
    width: int
    height: int


class DepthDecoder(nn.Module):
    """Query states and mean colour of the image to one number per label."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.states = nn.Linear(width, hidden)
        self.colour = nn.Linear(3, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, states: Tensor, colour: Tensor) -> Tensor:
        """(labels, C), (labels, 3) -> (labels,)"""
        return self.out(torch.tanh(self.states(states) + self.colour(colour)))[:, 0]


class DepthTool(RoutedTool[DepthOptions, Depth]):
    """Estimates distances."""

    name = "depth"
    description = "Estimates how far away named objects are."
    tokens = (
        RoutingToken(
            text="[DEPTH]",
            label_tag="depth",
            layout=ForcedLayout(question="How far away are {labels}?", answer="Distances: {items}."),
        ),
    )
    table = QueryTable(name="depth", count=3)
    checkpoint_prefix = "depth_net."
    options_type = DepthOptions
    result_type = Depth

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self | None:
        """Build from ``depth_config``."""
        if not config.get("use_depth"):
            return None
        hidden = config["depth_config"].get("hidden")
        if not isinstance(hidden, int) or hidden < 1:
            raise ConfigError("depth_config has no width", value=hidden, remedy="Set depth_config.hidden.")
        return cls(DepthDecoder(config["llm_config"]["hidden_size"], hidden))

    def run(self, requests: Sequence[ToolRequest[DepthOptions]]) -> list[Depth]:
        """One batch over all labels of all requests."""
        values = self._decode(requests).split([len(request.links) for request in requests])
        results = []
        for request, row in zip(requests, values, strict=True):
            assert request.image is not None
            results.append(
                Depth(
                    distances=dict(zip(request.labels, row.tolist(), strict=True)),
                    unit=request.options.unit,
                    width=request.image.width,
                    height=request.image.height,
                )
            )
        return results

    def loss(self, requests: Sequence[ToolRequest[DepthOptions]], targets: Sequence[list[float]]) -> ToolLoss:
        """Squared error; a target is one distance per label."""
        wanted = torch.tensor([value for target in targets for value in target])
        total = (self._decode(requests) - wanted).pow(2).mean()
        return ToolLoss(total=total, terms={"depth": total.detach()})

    def _decode(self, requests: Sequence[ToolRequest[DepthOptions]]) -> Tensor:
        states = torch.stack([link.states.mean(0) for request in requests for link in request.links])
        colours = []
        for request in requests:
            assert request.image is not None
            colour = torch.tensor(request.image.resize((1, 1)).getpixel((0, 0))) / 255
            colours += [colour] * len(request.links)
        return self.decoder(states, torch.stack(colours))
