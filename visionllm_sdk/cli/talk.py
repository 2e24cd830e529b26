"""The conversation on a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from visionllm_sdk.cli import show
from visionllm_sdk.errors import InputError, VisionLLMError
from visionllm_sdk.images import LoadedImage, load_image

if TYPE_CHECKING:
    from visionllm_sdk.skills import VisionLLM

_HELP = "/image PATH adds an image, /new starts over, /quit leaves."


def converse(
    vlm: VisionLLM, images: Sequence[LoadedImage], *, adapter: str | None = None, save: Path | None
) -> None:
    """Read messages and answer them until the input ends or says /quit.

    Args:
        vlm: the model.
        images: what the conversation is about at first.
        adapter: name of the one that answers.
        save: picture that is written anew after every reply with results.
    """
    from visionllm_sdk.skills import PastTurn

    console = Console()
    show.messages().print(_HELP, style="dim")
    fresh, history, latest = list(images), list[PastTurn](), list(images)
    for line in _lines(console):
        try:
            if line.startswith("/image "):
                fresh.append(load_image(line.removeprefix("/image ").strip()))
                latest = fresh[-1:]
                continue
            if line == "/new":
                fresh, history = list(latest), []
                continue
            if line.startswith("/"):
                raise InputError("unknown command", value=line.split()[0], limit=_HELP)
            reply = vlm.chat(line, images=fresh, history=history, adapter=adapter)
        except VisionLLMError as error:
            show.messages().print(f"Error: {error}", style="red", markup=False)
            continue
        history.append(PastTurn(line, reply, images=tuple(fresh)))
        fresh = []
        console.print(show.table_of(reply))
        if save is not None and reply.results and latest:
            show.save_picture(reply, latest[-1], save)


def _lines(console: Console) -> Iterator[str]:
    """Messages without blanks around them, until the input ends or says /quit."""
    while True:
        try:
            line = console.input("> ").strip()
        except EOFError:
            return
        if line == "/quit":
            return
        if line:
            yield line
