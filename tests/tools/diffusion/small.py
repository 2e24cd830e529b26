"""Decoders from scratch, small enough to run in milliseconds."""

from __future__ import annotations

from typing import Any

import torch

from visionllm_sdk.tool import SuperLink
from visionllm_tools.diffusion.embedded import embedded_section

WIDTH, QUERIES, SIDE = 16, 8, 32


def small_config(name: str, **changes: Any) -> dict[str, Any]:
    """A released configuration with one small diffusion decoder, `sd` or `ip2p`."""
    section = embedded_section(
        WIDTH, editing=name == "ip2p", widths=(32, 32), condition=32, queries=4, side=SIDE
    )
    section["visionllm_sdk"] |= {"steps": 3, **changes}
    return {"llm_config": {"hidden_size": WIDTH}, f"use_{name}": True, f"{name}_config": section}


def link(token: str, number: int = 0, *, label: str = "", width: int = WIDTH) -> SuperLink:
    """A super-link with random states."""
    states = torch.randn(QUERIES, width, generator=torch.Generator().manual_seed(number))
    return SuperLink(token=token, label=label, states=states)
