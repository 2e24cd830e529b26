"""Commands for a user's own data: `visionllm data check`, `visionllm finetune`, `visionllm evaluate DATA`.

Imported at every start of the command line: nothing heavy may be imported here before a command runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionllm_sdk.cli.options import DeviceOption, JsonOption, ModelOption

if TYPE_CHECKING:
    from visionllm_sdk import VisionLLM

DataArgument = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="COCO JSON, YOLO folder, LLaVA JSON, JSON lines, class folders, or hub:owner/name.",
        show_default=False,
    ),
]
ImagesOption = Annotated[Path | None, typer.Option("--images", metavar="FOLDER", help="Pictures of DATA.")]
ValOption = Annotated[
    str | None, typer.Option("--val", metavar="DATA", help="What the result is measured on.")
]
ValImagesOption = Annotated[
    Path | None, typer.Option("--val-images", metavar="FOLDER", help="Its pictures. (default: --images)")
]
SkipOption = Annotated[
    bool, typer.Option("--skip-faulty", help="Leave faulty items out, counted, instead of refusing the set.")
]


def add_commands(app: typer.Typer) -> None:
    """Add `data check`, `finetune` and `merge` to the command line."""
    data = typer.Typer(no_args_is_help=True, help="Look at labelled data.")
    data.command("check")(check_data)
    app.add_typer(data, name="data")
    app.command("finetune")(finetune_model)
    app.command("merge")(merge_adapter)


def check_data(
    data: DataArgument,
    images: ImagesOption = None,
    val: ValOption = None,
    val_images: ValImagesOption = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Write data.json and sheet.png there.")
    ] = None,
    as_json: JsonOption = False,
    model: ModelOption = None,
) -> None:
    """Say what is wrong with labelled data, item by item; exit code 1 if anything is."""
    from visionllm_adapters.data import check, read_data
    from visionllm_adapters.data.check import lines_of, save_report
    from visionllm_sdk.cli import show

    known = read_data(data, images=images)
    other = None if val is None else read_data(val, images=val_images or images, split="val")
    report = check(known, other, sheet=24 if out is not None else 0, edges=_edges(model))
    if out is not None:
        save_report(report, out)
    if as_json:
        show.print_json(report.as_dict())
    else:
        sys.stdout.write("\n".join(lines_of(report)) + "\n")
    if not report.passed:
        raise typer.Exit(1)


def _edges(model: str | None) -> tuple[int, int]:
    """Input size of a checkpoint's detector."""
    from visionllm_sdk.model.config import read_config
    from visionllm_sdk.skills.loading import checkpoint_folder

    section = read_config(checkpoint_folder(model)).to_released().get("gdino_config") or {}
    return int(section.get("shortest_edge", 800)), int(section.get("longest_edge", 1333))


def finetune_model(
    data: DataArgument,
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the adapter goes.")],
    images: ImagesOption = None,
    val: ValOption = None,
    val_images: ValImagesOption = None,
    skill: Annotated[
        list[str] | None,
        typer.Option(
            "--skill", help="detect, ground, pose, vqa or caption; may be repeated. (default: detect)"
        ),
    ] = None,
    preset: Annotated[str, typer.Option(help="How much learns: light, standard, full.")] = "standard",
    minutes: Annotated[float | None, typer.Option(help="Time for training.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of the optimiser.")] = None,
    epochs: Annotated[float | None, typer.Option(help="Passes over the data.")] = None,
    rank: Annotated[int | None, typer.Option(help="Of the low-rank updates. (default: the preset's)")] = None,
    dora: Annotated[bool, typer.Option("--dora", help="Size and direction apart.")] = False,
    rslora: Annotated[bool, typer.Option("--rslora", help="Scale by the root of the rank.")] = False,
    quantization: Annotated[str | None, typer.Option(help="int8 or int4 base (QLoRA).")] = None,
    batch: Annotated[int | None, typer.Option(help="Examples of a step.")] = None,
    micro_batch: Annotated[int | None, typer.Option(help="Examples computed together.")] = None,
    replay: Annotated[float | None, typer.Option(help="Share of scenes against forgetting.")] = None,
    patience: Annotated[
        int | None, typer.Option(help="Measurements without progress before the end.")
    ] = None,
    precision: Annotated[str | None, typer.Option(help="fp32 or bf16.")] = None,
    checkpointing: Annotated[bool, typer.Option("--checkpointing", help="Less memory, more time.")] = False,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    restart: Annotated[bool, typer.Option("--restart", help="Do not go on with an unfinished run.")] = False,
    skip_faulty: SkipOption = False,
    as_json: JsonOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Teach the model your own domain: an adapter to load, and a report of what it gained."""
    from visionllm_adapters.training.finetune import finetune
    from visionllm_sdk.cli import show

    report = finetune(
        data,
        images=images,
        val=val,
        val_images=val_images,
        skill=skill or "detect",
        output=output,
        model=model,
        device=device,
        resume=not restart,
        skip_faulty=skip_faulty,
        preset=preset,
        minutes=minutes,
        steps=steps,
        epochs=epochs,
        rank=rank,
        dora=dora,
        rslora=rslora,
        quantization=quantization,
        batch=batch,
        micro_batch=micro_batch,
        replay=replay,
        patience=patience,
        precision=precision,
        checkpointing=checkpointing,
        seed=seed,
    )
    if as_json:
        show.print_json(report.as_dict())
        return
    rows = {
        f"{name}.{figure}": f"{change.before.figures.get(figure) or 0:.3f} -> {value or 0:.3f}"
        for name, change in report.skills.items()
        for figure, value in change.after.figures.items()
    }
    show.print_figures({**rows, "adapter": str(output), "report": str(output / "report.html")}, as_json=False)


def merge_adapter(
    adapter: Annotated[Path, typer.Argument(metavar="ADAPTER", help="Folder of the adapter.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the checkpoint goes.")
    ],
    model: ModelOption = None,
) -> None:
    """Write the base with an adapter merged into it as a full checkpoint."""
    from visionllm_adapters.exporting import export_merged

    sys.stderr.write(f"saved {export_merged(adapter, output, model=model)}\n")


def evaluate_data(
    vlm: VisionLLM,
    data: str,
    *,
    images: Path | None,
    skills: list[str] | None,
    adapter: Path | None,
    out: Path | None,
) -> dict[str, Any]:
    """What `visionllm evaluate DATA` prints; several skills are nested by name."""
    import json

    from visionllm_adapters.reporting.confusion import draw_confusion
    from visionllm_adapters.scoring import evaluate

    found = {}
    for skill in skills or ["detect"]:
        score = evaluate(data, images=images, skill=skill, adapter=adapter, model=vlm)
        found[skill] = score.as_dict()
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{skill}.json").write_text(json.dumps(found[skill], indent=2) + "\n", encoding="utf-8")
            if score.confusion:
                draw_confusion(score.confusion, out / f"{skill}_confusion.png")
    return next(iter(found.values())) if len(found) == 1 else found
