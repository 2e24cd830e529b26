"""What tools about images do with their requests: labels, images and states in batches."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from visionllm_sdk.errors import ToolError
from visionllm_sdk.model.lanes import even_parts
from visionllm_sdk.tool import SuperLink, ToolRequest
from visionllm_tools.detection.prepare import InputSize, group_by_size

_PIXELS_AT_ONCE = 1_600_000
"""Input pixels in one pass of a backbone or a transformer; bounds memory."""
_PIXELS_IN_CACHE = 400_000
"""The same on a processor, whose cache larger passes leave."""


def pixels_at_once(decoder: nn.Module) -> int:
    """How many input pixels one pass of a decoder should take, where it is."""
    on_processor = next(decoder.parameters()).device.type == "cpu"
    return _PIXELS_IN_CACHE if on_processor else _PIXELS_AT_ONCE


def distinct(links: Sequence[SuperLink]) -> list[SuperLink]:
    """The first super-link of every label; links without a label all stay."""
    seen: set[str] = set()
    kept = []
    for link in links:
        if not link.label or link.label not in seen:
            kept.append(link)
        seen.add(link.label)
    return kept


def check_width(links: Iterable[SuperLink], width: int, reader: str) -> None:
    """Refuse super-links of another language model.

    Args:
        links: what a request carries.
        width: channels that the decoder reads.
        reader: the decoder's name, for the message.

    Raises:
        ToolError: a link has another shape.
    """
    for link in links:
        if link.states.dim() != 2 or link.states.shape[1] != width:
            raise ToolError(
                f"the super-link of {link.label!r} does not fit the {reader}",
                value=tuple(link.states.shape),
                limit=f"(queries, {width})",
                remedy=f"Use the {reader} and the language model of one checkpoint.",
            )


def stack_states(rows: Sequence[Tensor], decoder: nn.Module) -> tuple[Tensor, Tensor]:
    """States of several rows in one batch on the decoder's device and in its number format.

    Args:
        rows: (N_i, E, C) each, with different numbers of labels.
        decoder: what reads them.

    Returns:
        (B, N, E, C), zero where a row is shorter, and the mask of labels that exist (B, N) bool.
    """
    place = next(decoder.parameters())
    most = max(len(row) for row in rows)
    states = torch.zeros(len(rows), most, *rows[0].shape[1:], device=place.device, dtype=place.dtype)
    mask = torch.zeros(len(rows), most, dtype=torch.bool, device=place.device)
    for i, row in enumerate(rows):
        states[i, : len(row)] = row.to(states)
        mask[i, : len(row)] = True
    return states, mask


def image_of(request: ToolRequest[Any]) -> Image.Image:
    """The request's image.

    Raises:
        ToolError: it has none.
    """
    if request.image is None:
        raise ToolError(
            f"{request.token} needs an image", remedy="Pass an image with the request that asks for it."
        )
    return request.image


@dataclass(frozen=True, kw_only=True)
class ImageJob:
    """Images of one padded size, few enough for one pass of a backbone, with all requests about them.

    Attributes:
        images: each once; several requests may ask about one.
        keys: their contents' names, empty where nobody knows one.
        requests: positions of the requests.
        places: for each of them, the position of its image in `images`.
    """

    images: list[Image.Image]
    keys: list[str]
    requests: list[int]
    places: list[int]


def image_jobs(
    requests: Sequence[ToolRequest[Any]], size: InputSize, decoder: nn.Module
) -> Iterator[ImageJob]:
    """Divide requests by their images, so that no result depends on what else is in the batch.

    Args:
        requests: any mix.
        size: the decoder's input size.
        decoder: what reads the images.

    Raises:
        ToolError: a request without an image.
    """
    named = [request.image_key or id(image_of(request)) for request in requests]
    unique = dict(zip(named, requests, strict=True))  # equal pictures are one
    names, images = list(unique), [image_of(request) for request in unique.values()]
    for padded, members in group_by_size(images, size).items():
        most = max(1, pixels_at_once(decoder) // (padded[0] * padded[1]))
        rest = iter(members)
        for count in even_parts(len(members), most, next(decoder.parameters()).device):
            chosen = list(islice(rest, count))
            places = {names[i]: place for place, i in enumerate(chosen)}
            wanted = [i for i, name in enumerate(named) if name in places]
            yield ImageJob(
                images=[images[i] for i in chosen],
                keys=[unique[names[i]].image_key for i in chosen],
                requests=wanted,
                places=[places[named[i]] for i in wanted],
            )
