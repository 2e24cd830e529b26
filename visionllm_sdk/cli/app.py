"""The commands. Each loads the model, calls one typed method, and shows what it returns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionllm_sdk.cli.convert import convert
from visionllm_sdk.cli.draw import edit, generate
from visionllm_sdk.cli.loading import load_images as _load_images
from visionllm_sdk.cli.loading import load_model as _load_model
from visionllm_sdk.cli.options import (
    DeviceOption,
    ImageArgument,
    ImagesArgument,
    JsonOption,
    KeypointsOption,
    LabelsOption,
    MasksOption,
    ModelOption,
    SaveOption,
    ThresholdOption,
    UrlsOption,
    split_keypoints,
    split_labels,
)
from visionllm_sdk.cli.regions import RegionOption, describe, read_regions

if TYPE_CHECKING:
    from visionllm_sdk.results import Result
    from visionllm_sdk.skills import VisionLLM

app = typer.Typer(
    name="visionllm",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="One vision-language model that decides which visual skill a request needs. Typed results.",
    epilog="Add --debug to any command to see where an error came from.",
)


def _examples(*lines: str) -> str:
    return "[bold]Examples[/bold]\n\n" + "\n\n".join(f"visionllm {line}" for line in lines)


@app.command(
    epilog=_examples('detect street.jpg --labels "red circle,star"', "detect a.png b.png -l star --json")
)
def detect(
    image: ImagesArgument,
    labels: LabelsOption,
    threshold: ThresholdOption = None,
    masks: MasksOption = True,
    as_json: JsonOption = False,
    save: SaveOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Find all objects of the named kinds, with boxes and masks."""
    wanted = split_labels(labels)
    _perceive(
        lambda vlm, images: vlm.detect(images, wanted, threshold=threshold, masks=masks),
        image, as_json, save, model, device, allow_urls,
    )  # fmt: skip


@app.command(epilog=_examples('segment scene.png --labels "circle,star" --save map.png'))
def segment(
    image: ImagesArgument,
    labels: LabelsOption,
    as_json: JsonOption = False,
    save: SaveOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Give every pixel one of the named categories."""
    wanted = split_labels(labels)
    _perceive(
        lambda vlm, images: vlm.segment(images, wanted), image, as_json, save, model, device, allow_urls
    )


@app.command(epilog=_examples('ground scene.png "the star left of the ring" --save found.png'))
def ground(
    image: ImageArgument,
    expression: Annotated[str, typer.Argument(help="What to point at.", show_default=False)],
    threshold: ThresholdOption = None,
    masks: MasksOption = True,
    as_json: JsonOption = False,
    save: SaveOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Find the one thing that an expression describes."""
    _perceive(
        lambda vlm, images: vlm.ground(images, expression, threshold=threshold, masks=masks),
        [image], as_json, save, model, device, allow_urls,
    )  # fmt: skip


@app.command(epilog=_examples("count scene.png star"))
def count(
    image: ImageArgument,
    label: Annotated[str, typer.Argument(help="What to count.", show_default=False)],
    threshold: ThresholdOption = None,
    as_json: JsonOption = False,
    save: SaveOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Count the objects of one kind."""
    _perceive(
        lambda vlm, images: vlm.count(images, label, threshold=threshold),
        [image], as_json, save, model, device, allow_urls,
    )  # fmt: skip


@app.command(
    epilog=_examples("pose scene.png person --json", 'pose scene.png dog -k "nose,neck" --save poses.png')
)
def pose(
    image: ImageArgument,
    label: Annotated[str, typer.Argument(help="Whose keypoints, such as person.", show_default=False)],
    keypoints: KeypointsOption = "coco",
    threshold: ThresholdOption = None,
    as_json: JsonOption = False,
    save: SaveOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Find all objects of the named kinds with their keypoints."""
    kinds, points = split_labels(label), split_keypoints(keypoints)
    _perceive(
        lambda vlm, images: vlm.pose(images, kinds, points, threshold=threshold),
        [image], as_json, save, model, device, allow_urls,
    )  # fmt: skip


@app.command(
    epilog=_examples(
        'ask scene.png "What colour is the largest object?"',
        'ask scene.png "Is <region> left of <region>?" -r point:20,30 -r box:80,10,120,60',
    )
)
def ask(
    image: ImageArgument,
    question: Annotated[str, typer.Argument(help="A question about the image.", show_default=False)],
    region: RegionOption = None,
    as_json: JsonOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Answer a question about the image in a word or a phrase."""
    _perceive(
        lambda vlm, images: vlm.ask(images, question, read_regions(region)),
        [image], as_json, None, model, device, allow_urls,
    )  # fmt: skip


@app.command(epilog=_examples("caption scene.png", "caption photos/*.png --json"))
def caption(
    image: ImagesArgument,
    as_json: JsonOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Say what is in the image."""
    _perceive(lambda vlm, images: vlm.caption(images), image, as_json, None, model, device, allow_urls)


@app.command(
    epilog=_examples(
        'chat "Find the stars and count them" --image scene.png --save out.png', "chat -i scene.png"
    )
)
def chat(
    text: Annotated[
        str | None, typer.Argument(help="What to say; without it a conversation starts.", show_default=False)
    ] = None,
    image: Annotated[
        list[str] | None, typer.Option("--image", "-i", help="Image to talk about; may be repeated.")
    ] = None,
    as_json: JsonOption = False,
    save: SaveOption = None,
    model: ModelOption = None,
    device: DeviceOption = None,
    allow_urls: UrlsOption = False,
) -> None:
    """Talk with the model, which decides by itself what each request needs."""
    from visionllm_sdk.cli import show, talk
    from visionllm_sdk.errors import InputError

    if text is None and as_json:
        raise InputError("--json needs a message", remedy='Write one: visionllm chat "Find the stars" --json')
    if save is not None and not image:
        raise InputError("--save needs an image to draw on", remedy="Name one with --image.")
    if save is not None:
        show.check_target(save, 1)
    images = _load_images(image or [], allow_urls)
    vlm = _load_model(model, device)
    if text is None:
        talk.converse(vlm, images, save=save)
        return
    reply = vlm.chat(text, images=images)
    show.print_results([reply], [""], as_json=as_json)
    if save is not None:
        show.save_picture(reply, images[-1], save)


@app.command(epilog=_examples("info", "info --model ./my-checkpoint --json"))
def info(model: ModelOption = None, as_json: JsonOption = False) -> None:
    """Show what a checkpoint holds: tools, sizes, limits."""
    from visionllm_sdk.cli import inform, show

    facts = inform.describe(model)
    if as_json:
        show.print_json(facts)
    else:
        inform.print_facts(facts)


@app.command(epilog=_examples("evaluate", "evaluate --scenes 100 --skill vqa --skill routing --json"))
def evaluate(
    data: Annotated[
        str | None,
        typer.Argument(
            metavar="[DATA]", help="Annotations to measure on instead of scenes.", show_default=False
        ),
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", metavar="FOLDER", help="Pictures of DATA.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option("--adapter", metavar="FOLDER", help="Adapter to measure, on DATA.")
    ] = None,
    scenes: Annotated[int, typer.Option("--scenes", "-n", min=1, help="How many held-out scenes.")] = 500,
    skill: Annotated[
        list[str] | None, typer.Option("--skill", help="Measure only this skill; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FOLDER", help="Write report.json and a contact sheet there."),
    ] = None,
    as_json: JsonOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Measure every skill on held-out scenes (exit code 1 if a bar is missed), or one skill on your data."""
    from rich.console import Console

    from visionllm_sdk.cli import show
    from visionllm_sdk.errors import InputError
    from visionllm_sdk.evaluation import run
    from visionllm_sdk.extensions import load_extension

    if data is not None:
        measured = load_extension("evaluate")(
            _load_model(model, device), data, images=images, skills=skill, adapter=adapter, out=out
        )
        show.print_figures(measured, as_json=as_json)
        return
    if images is not None or adapter is not None:
        raise InputError("--images and --adapter need DATA", remedy="Name the annotations to measure on.")

    report = run(_load_model(model, device), scenes=scenes, skills=skill or None, out=out)
    if as_json:
        show.print_json(report.model_dump(mode="json"))
    else:
        Console().print(report)
    if not report.passed:
        raise typer.Exit(1)


@app.command(epilog=_examples("demo", "demo --save demo_output"))
def demo(
    save: Annotated[
        Path, typer.Option("--save", "-s", metavar="FOLDER", help="Where the results go.")
    ] = Path("demo_output"),
    as_json: JsonOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Run the agent on a shipped scene: an annotated picture, a JSON file and a table."""
    from visionllm_sdk import demo as demonstration
    from visionllm_sdk.cli import show

    vlm = _load_model(model, device)
    report = demonstration.run(vlm, save)
    if as_json:
        show.print_json(report.as_dict())
    else:
        demonstration.print_report(report)


app.command(
    epilog=_examples(
        'generate "a red circle left of a blue star" --seed 7', 'generate "a ring" -n 4 -s rings.png'
    )
)(generate)
app.command(epilog=_examples('edit scene.png "make the star yellow" --save edited.png'))(edit)
app.command(epilog=_examples("describe scene.png --region box:10,20,60,80 --region point:100,40"))(describe)
app.command(epilog=_examples("convert ./VisionLLMv2", "convert ./VisionLLMv2 ./VisionLLMv2-new"))(convert)


# -- what the commands share -------------------------------------------------------------------------------

Work = Callable[["VisionLLM", Any], Sequence["Result"]]


def _perceive(
    work: Work,
    names: list[str],
    as_json: bool,
    save: Path | None,
    model: str | None,
    device: str | None,
    allow_urls: bool,
) -> None:
    """Load images and model, work, show and save."""
    from visionllm_sdk.cli import show

    if save is not None:
        show.check_target(save, len(names))
    images = _load_images(names, allow_urls)
    vlm = _load_model(model, device)
    results = show.with_progress(images, lambda part: work(vlm, part))
    show.print_results(results, names, as_json=as_json)
    if save is not None:
        show.save_pictures(results, images, names, save)
