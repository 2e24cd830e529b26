"""Options of `visionllm finetune`: their names are those of `FinetuneSettings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, TypeAlias

import typer

OutputOption: TypeAlias = Annotated[
    Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the adapter goes.")
]
SkillOption: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--skill",
        help="detect, ground, pose, vqa, caption, describe, classify, segment_regions, generate or edit; may "
        "be repeated. (default: detect)",
    ),
]
PresetOption: TypeAlias = Annotated[str, typer.Option(help="How much learns: light, standard, full.")]
MinutesOption: TypeAlias = Annotated[
    float | None, typer.Option(help="Time for training; the clock alone decides how many steps there are.")
]
StepsOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Steps of the optimiser, in place of --epochs.")
]
EpochsOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Passes over the data, where neither --minutes nor --steps say how long. (default: 20)"
    ),
]
RankOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Of the low-rank updates. (default: the preset's)")
]
DoraOption: TypeAlias = Annotated[bool, typer.Option("--dora", help="Size and direction apart.")]
RsloraOption: TypeAlias = Annotated[bool, typer.Option("--rslora", help="Scale by the root of the rank.")]
QuantizationOption: TypeAlias = Annotated[
    str | None, typer.Option(help="int8 or int4 base (QLoRA); needs CUDA. (default: none)")
]
BatchOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Examples of a step, over all processes. (default: 8)")
]
MicroBatchOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Examples computed together. (default: 8)")
]
ReplayOption: TypeAlias = Annotated[
    float | None,
    typer.Option(
        help="Share of scenes against forgetting. (default: 0.375, 0.5 where the detector "
        "learns; 0 for models other than the embedded one)"
    ),
]
PatienceOption: TypeAlias = Annotated[
    int | None, typer.Option(help="Measurements without progress before the end. (default: never)")
]
SlackOption: TypeAlias = Annotated[
    float | None,
    typer.Option(help="Share of the metric given up to stay near the base; 0: none. (default: 0.01)"),
]
PrecisionOption: TypeAlias = Annotated[
    str | None, typer.Option(help="auto, fp32 or bf16. (default: auto: bf16 where the device computes in it)")
]
CheckpointingOption: TypeAlias = Annotated[
    bool, typer.Option("--checkpointing", help="Less memory, more time.")
]
SeedOption: TypeAlias = Annotated[int, typer.Option(help="Of everything random.")]
RestartOption: TypeAlias = Annotated[
    bool, typer.Option("--restart", help="Do not go on with an unfinished run.")
]

SETTINGS: Final = (
    "preset", "minutes", "steps", "epochs", "rank", "dora", "rslora", "quantization", "batch", "micro_batch",
    "replay", "patience", "slack", "precision", "checkpointing", "seed",
)  # fmt: skip
"""Options that are settings of the run."""
