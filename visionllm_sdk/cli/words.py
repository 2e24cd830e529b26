"""The commands that answer in words: `ask`, `caption` and `chat`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from visionllm_sdk.cli.calls import ImageCall, look, takes
from visionllm_sdk.cli.loading import load_images
from visionllm_sdk.cli.options import ImageArgument, ImagesArgument, RegionOption
from visionllm_sdk.cli.regions import read_regions


@takes(ImageCall)
def ask(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="A question about the image.", show_default=False)],
    region: RegionOption = None,
    *,
    call: ImageCall,
) -> None:
    """Answer a question about the image in a word or a phrase."""
    marked = read_regions(region)
    look(
        call,
        [image],
        lambda vlm, images, adapter: vlm.ask(images, question, marked, adapter=adapter),
        regions=marked,
    )


@takes(ImageCall)
def caption(image: ImagesArgument, *, call: ImageCall) -> None:
    """Say what is in the image."""
    look(call, image, lambda vlm, images, adapter: vlm.caption(images, adapter=adapter))


@dataclass(frozen=True, kw_only=True)
class TalkCall(ImageCall):
    """A command that talks, about the last image where there are several.

    Attributes:
        save: where the picture of what was found or made goes.
    """

    save: Annotated[
        Path | None,
        typer.Option(
            "--save",
            "-s",
            metavar="PICTURE",
            help="Write the last image with the results drawn on it, or the picture that was made.",
        ),
    ] = None


@takes(TalkCall)
def chat(
    text: Annotated[
        str | None, typer.Argument(help="What to say; without it a conversation starts.", show_default=False)
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", help="Image to talk about; may be repeated.")
    ] = None,
    *,
    call: TalkCall,
) -> None:
    """Talk with the model, which decides by itself what each request needs."""
    from visionllm_sdk.cli import show, talk
    from visionllm_sdk.errors import InputError

    save = call.save
    if text is None and call.as_json:
        raise InputError("--json needs a message", remedy='Write one: visionllm chat "Find the stars" --json')
    if save is not None:
        show.check_target(save, made=True)
    images = load_images(image or [], call.allow_urls)
    vlm, adapter = call.load_adapted()
    if text is None:
        talk.converse(vlm, images, adapter=adapter, allow_urls=call.allow_urls, save=save)
        return
    reply = vlm.chat(text, images=images, adapter=adapter)
    show.print_results([reply], [""], as_json=call.as_json)
    if save is not None:
        show.save_picture(reply, images[-1] if images else None, save)
