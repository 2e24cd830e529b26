"""Commands for a user's own data: `visionllm data check`, `visionllm finetune`, `visionllm evaluate DATA`.

Imported at every start of the command line: nothing heavy may be imported here before a command runs.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from visionllm_adapters import options
from visionllm_sdk.cli.options import DeviceOption, JsonOption, ModelOption

if TYPE_CHECKING:
    from visionllm_adapters.reporting.report import FinetuneReport
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
    str | None,
    typer.Option(
        "--val",
        metavar="DATA",
        help="What the result is measured on. (default: DATA's own split val, else DATA itself)",
    ),
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
    from visionllm_adapters.data.formats import has_own_split
    from visionllm_sdk.cli import show

    known = read_data(data, images=images)
    if val is None and has_own_split(data):  # it will be measured on
        val = data
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
    output: options.OutputOption,
    images: ImagesOption = None,
    val: ValOption = None,
    val_images: ValImagesOption = None,
    skill: options.SkillOption = None,
    preset: options.PresetOption = "standard",
    minutes: options.MinutesOption = None,
    steps: options.StepsOption = None,
    epochs: options.EpochsOption = None,
    rank: options.RankOption = None,
    dora: options.DoraOption = False,
    rslora: options.RsloraOption = False,
    quantization: options.QuantizationOption = None,
    batch: options.BatchOption = None,
    micro_batch: options.MicroBatchOption = None,
    replay: options.ReplayOption = None,
    patience: options.PatienceOption = None,
    slack: options.SlackOption = None,
    precision: options.PrecisionOption = None,
    checkpointing: options.CheckpointingOption = False,
    seed: options.SeedOption = 0,
    restart: options.RestartOption = False,
    skip_faulty: SkipOption = False,
    as_json: JsonOption = False,
    model: ModelOption = None,
    device: DeviceOption = None,
) -> None:
    """Teach the model your own domain: an adapter to load, and a report of what it gained."""
    given = locals()  # the options that are settings bear the settings' names
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
        **{name: given[name] for name in options.SETTINGS},
    )
    if as_json:
        show.print_json(report.as_dict())
    else:
        show.print_figures(_shown(report), as_json=False)


def _shown(report: FinetuneReport) -> dict[str, str]:
    """Every figure before and after, and where the adapter is."""
    rows = {
        f"{name}.{figure}": f"{_told(change.before.figures.get(figure))} -> {_told(value)}"
        for name, change in report.skills.items()
        for figure, value in change.after.figures.items()
    }
    return {**rows, "adapter": str(report.path), "report": str(report.path / "report.html")}


def _told(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.3f}"


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
    split: str = "val",
    skip_faulty: bool = False,
) -> dict[str, Any]:
    """What `visionllm evaluate DATA` prints; several skills are nested by name."""
    import json

    from visionllm_adapters.reporting.confusion import draw_confusion
    from visionllm_adapters.scoring import evaluate

    found = {}
    for skill in skills or ["detect"]:
        score = evaluate(
            data,
            images=images,
            skill=skill,
            adapter=adapter,
            model=vlm,
            split=split,
            skip_faulty=skip_faulty,
        )
        found[skill] = score.as_dict()
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            (out / f"{skill}.json").write_text(json.dumps(found[skill], indent=2) + "\n", encoding="utf-8")
            if score.confusion:
                draw_confusion(score.confusion, out / f"{skill}_confusion.png")
    return next(iter(found.values())) if len(found) == 1 else found
