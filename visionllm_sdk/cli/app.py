"""The command line's table of contents: every command of the core, with examples for its help."""

from __future__ import annotations

from typing import Final

import typer

from visionllm_sdk.cli.calls import Command
from visionllm_sdk.cli.checkpoints import convert, info
from visionllm_sdk.cli.draw import edit, generate
from visionllm_sdk.cli.find import count, detect, ground, pose, segment
from visionllm_sdk.cli.measure import demo, evaluate
from visionllm_sdk.cli.regions import classify, describe
from visionllm_sdk.cli.words import ask, caption, chat

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

_COMMANDS: Final[dict[Command, tuple[str, ...]]] = {
    detect: ('detect street.jpg --labels "red circle,star"', "detect a.png b.png -l star --json"),
    segment: (
        'segment scene.png --labels "circle,star" --save map.png',
        "segment scene.png --region point:40,30 --save outline.png",
    ),
    ground: ('ground scene.png "the star left of the ring" --save found.png',),
    count: ("count scene.png star",),
    pose: ("pose scene.png person --json", 'pose scene.png dog -k "nose,neck" --save poses.png'),
    describe: ("describe scene.png --region box:10,20,60,80 --region point:100,40",),
    classify: ('classify scene.png --region point:100,40 --labels "star,ring"',),
    ask: (
        'ask scene.png "What colour is the largest object?"',
        'ask scene.png "Is <region> left of <region>?" -r point:20,30 -r box:80,10,120,60',
    ),
    caption: ("caption scene.png", "caption photos/*.png --json"),
    chat: ('chat "Find the stars and count them" --image scene.png --save out.png', "chat -i scene.png"),
    generate: (
        'generate "a red circle left of a blue star" --seed 7',
        'generate "a ring" -n 4 -s rings.png',
    ),
    edit: ('edit scene.png "make the star yellow" --save edited.png',),
    demo: ("demo", "demo --save demo_output"),
    info: ("info", "info --model ./my-checkpoint --json"),
    evaluate: ("evaluate", "evaluate --scenes 100 --skill vqa --skill routing --json"),
    convert: ("convert ./VisionLLMv2", "convert ./VisionLLMv2 ./VisionLLMv2-new"),
}

for _command, _examples in _COMMANDS.items():
    _lines = "\n\n".join(f"visionllm {line}" for line in _examples)
    app.command(epilog=f"[bold]Examples[/bold]\n\n{_lines}")(_command)
