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
    vlm: VisionLLM,
    images: Sequence[LoadedImage],
    *,
    adapter: str | None = None,
    allow_urls: bool = False,
    save: Path | None,
) -> None:
    """Read messages and answer them until the input ends or says /quit.

    Args:
        vlm: the model.
        images: what the conversation is about at first.
        adapter: name of the one that answers.
        allow_urls: http(s) URLs are fetched.
        save: picture that is written anew after every reply with results.
    """
    from visionllm_sdk.skills import PastTurn
    from visionllm_sdk.skills.history import conversation

    console = Console()
    show.messages().print(_HELP, style="dim")
    fresh, history, latest = list(images), list[PastTurn](), list(images)
    for line in _lines(console):
        try:
            if line.startswith("/image "):
                fresh.append(load_image(line.removeprefix("/image ").strip(), allow_urls=allow_urls))
                latest = fresh[-1:]
                continue
            if line == "/new":
                fresh, history = list(latest), []
                continue
            if line.startswith("/"):
                raise InputError("unknown command", value=line.split()[0], limit=_HELP)
            seen = conversation(line, fresh, history, vlm.rules).image
            reply = vlm.chat(line, images=fresh, history=history, adapter=adapter)
            history.append(PastTurn(line, reply, images=tuple(fresh)))
            fresh = []
            console.print(show.table_of(reply))
            if save is not None and reply.results:
                show.save_picture(reply, seen, save)
        except (VisionLLMError, OSError) as error:
            show.messages().print(f"Error: {error}", style="red", markup=False)


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
