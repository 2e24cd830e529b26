"""The commands that tell what a model can do: `evaluate` and `demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final

import typer

from visionllm_sdk.cli.calls import ModelCall, takes

_SPLIT: Final = "val"
_SCENES: Final = 500

SplitOption = Annotated[
    str | None, typer.Option("--split", help=f"Part of DATA, where it has several. (default: {_SPLIT})")
]
SkipOption = Annotated[
    bool, typer.Option("--skip-faulty", help="Leave faulty items of DATA out instead of refusing it.")
]
ScenesOption = Annotated[
    int | None,
    typer.Option("--scenes", "-n", min=1, help=f"How many held-out scenes. (default: {_SCENES})"),
]
StartOption = Annotated[
    int | None, typer.Option("--start", min=0, help="Which held-out scene is the first. (default: 0)")
]
OutOption = Annotated[
    Path | None, typer.Option("--out", metavar="FOLDER", help="Write report.json and a contact sheet there.")
]


@takes(ModelCall)
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
        Path | None, typer.Option("--adapter", metavar="FOLDER", help="Adapter to answer with.")
    ] = None,
    split: SplitOption = None,
    skip_faulty: SkipOption = False,
    scenes: ScenesOption = None,
    start: StartOption = None,
    skill: Annotated[
        list[str] | None, typer.Option("--skill", help="Measure only this skill; may be repeated.")
    ] = None,
    out: OutOption = None,
    *,
    call: ModelCall,
) -> None:
    """Measure every skill on held-out scenes (exit code 1 if a bar is missed), or one skill on your data."""
    from rich.console import Console

    from visionllm_sdk.cli import show
    from visionllm_sdk.evaluation import adapted, run
    from visionllm_sdk.extensions import load_extension

    of_data = {"--images": images, "--split": split, "--skip-faulty": skip_faulty or None}
    _check_options(data, of_data, {"--scenes": scenes, "--start": start})
    if out is not None:
        show.check_folder(out)
    if data is not None:
        measured = load_extension("evaluate")(
            call.load(),
            data,
            images=images,
            skills=skill,
            adapter=adapter,
            out=out,
            split=_SPLIT if split is None else split,
            skip_faulty=skip_faulty,
        )
        show.print_figures(measured, as_json=call.as_json)
        return
    scenes = _SCENES if scenes is None else scenes
    vlm = call.load()
    answering = vlm if adapter is None else adapted(vlm, vlm.load_adapter(adapter))
    report = run(answering, scenes=scenes, skills=skill or None, start=start or 0, out=out)
    if call.as_json:
        show.print_json(report.model_dump(mode="json"))
    else:
        Console().print(report)
    if not report.passed:
        raise typer.Exit(1)


def _check_options(data: str | None, of_data: dict[str, Any], of_scenes: dict[str, Any]) -> None:
    """Refuse options that would be ignored.

    Args:
        data: what is measured; None for held-out scenes.
        of_data: options by name that speak of DATA, with None where one was not given.
        of_scenes: as `of_data`, those that speak of scenes.

    Raises:
        InputError: an option of what is not measured.
    """
    from visionllm_sdk.errors import InputError

    problem, remedy, idle = (
        ("needs DATA", "Name the annotations to measure on, or leave it out.", of_data)
        if data is None
        else ("is about scenes, and DATA is measured", "Leave it out, or leave DATA out.", of_scenes)
    )
    for name, value in idle.items():
        if value is not None:
            raise InputError(f"{name} {problem}", value=str(value), remedy=remedy)


@takes(ModelCall)
def demo(
    save: Annotated[
        Path, typer.Option("--save", "-s", metavar="FOLDER", help="Where the results go.")
    ] = Path("demo_output"),
    *,
    call: ModelCall,
) -> None:
    """Run the agent on a shipped scene: an annotated picture, a JSON file and a table."""
    from visionllm_sdk import demo as demonstration
    from visionllm_sdk.cli import show

    show.check_folder(save)
    report = demonstration.run(call.load(), save)
    if call.as_json:
        show.print_json(report.as_dict())
    else:
        demonstration.print_report(report)
