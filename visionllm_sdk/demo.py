"""The demonstration: an agent over the model looks at a shipped scene and answers what it is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from PIL import Image
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from visionllm_sdk.drawing import contact_sheet, draw_region
from visionllm_sdk.images import LoadedImage, load_image
from visionllm_sdk.regions import Box, Point, Region
from visionllm_sdk.results import Detections, ImageResult, Picture, Poses, Reply, Result, SemanticMap

if TYPE_CHECKING:
    from visionllm_sdk.agent import VisionAgent
    from visionllm_sdk.skills import VisionLLM


@dataclass(frozen=True)
class Request:
    """What the agent is asked, in a conversation of its own.

    Attributes:
        text: the message.
        skill: the model must have this skill for the request to make sense; None: every model has it.
        regions: marked in the image.
        shows: what the message shows: the scene, nothing, or the picture that was made last.
    """

    text: str
    skill: str | None = None
    regions: tuple[Region, ...] = ()
    shows: Literal["scene", "nothing", "picture"] = "scene"


REQUESTS: Final = (
    Request("Detect hearts, dogs, triangles and diamonds."),
    Request("Point to the largest heart."),
    Request("How many hearts are there?"),
    Request("Segment the hearts."),
    Request("Describe the image."),
    Request("Estimate the pose of every dog.", skill="pose"),
    Request("Describe <region>", skill="describe", regions=(Box(14, 138, 132, 258),)),
    Request(
        "Segment <region>, <region>", skill="segment_regions", regions=(Point(332, 126), Point(591, 397))
    ),
    Request(
        "Draw a red circle left of a blue star on a yellow background.", skill="generate", shows="nothing"
    ),
    Request("Make the background green.", skill="edit", shows="picture"),
)
"""What the agent is asked."""

_CELL: Final = 420
_WIDTH: Final = 120


def demo_scene() -> LoadedImage:
    """The scene that ships with the package, 640 x 480; its exact content is in `scene.json` beside it."""
    return load_image(files("visionllm_sdk").joinpath("assets", "scene.png").read_bytes())


@dataclass(frozen=True)
class Step:
    """One request and what the agent replied."""

    request: Request
    reply: Reply

    @property
    def made(self) -> Image.Image | None:
        """The picture that the reply made, if it made one."""
        made = [result.image for result in self.reply.results if isinstance(result, Picture)]
        return made[-1] if made else None

    def picture(self, image: Image.Image) -> Image.Image:
        """The picture that was made, or the scene with what was marked and everything that was found."""
        if self.made is not None:
            return self.made.resize((_CELL, _CELL), Image.Resampling.BICUBIC)
        for region in self.request.regions:
            image = draw_region(region, image)
        for result in self.reply.results:
            if isinstance(result, ImageResult):
                image = result.draw(image)
        return image


@dataclass(frozen=True)
class DemoReport:
    """What the demonstration did, and the files that it left."""

    steps: tuple[Step, ...]
    files: tuple[Path, ...]

    def as_dict(self) -> dict[str, Any]:
        """The report as JSON-safe data."""
        return {
            "steps": [
                {"request": step.request.text, "reply": step.reply.model_dump(mode="json")}
                for step in self.steps
            ],
            "files": [str(path) for path in self.files],
        }

    def table(self) -> RenderableType:
        """Requests, tools, findings and answers."""
        table = Table("request", "tool calls", "found", "answer", header_style="bold", show_lines=True)
        for step in self.steps:
            calls = [
                f"{call.tool}({', '.join(call.labels)})  {call.probability:.0%}" for call in step.reply.calls
            ]
            found = [_found(result) for result in step.reply.results]
            table.add_row(
                *map(Text, (step.request.text, "\n".join(calls), "\n".join(found), step.reply.text))
            )
        return table


def _found(result: Result) -> str:
    """One short line about a result."""
    if isinstance(result, SemanticMap):
        shares = [mask.area / (result.width * result.height) for mask in result.masks]
        return ", ".join(f"{label} {share:.1%}" for label, share in zip(result.labels, shares, strict=True))
    if isinstance(result, Detections):
        boxes = [f"{d.label} {d.score:.2f} at ({d.box.center[0]:.0f}, {d.box.center[1]:.0f})" for d in result]
        return "\n".join(boxes) or "nothing"
    if isinstance(result, Poses):
        seen = [sum(point.visible for point in pose.keypoints) for pose in result]
        poses = zip(result, seen, strict=True)
        return "\n".join(f"{p.label} {p.score:.2f} with {n} keypoints" for p, n in poses) or "nothing"
    if isinstance(result, Picture):
        return f"{result.image.width} x {result.image.height} pixels, seed {result.seed}"
    return str(result)


def _ask(agent: VisionAgent, request: Request, scene: LoadedImage, earlier: Sequence[Step]) -> Step:
    """One request, answered."""
    made = [step.made for step in earlier if step.made is not None]
    shown = {"scene": [scene], "nothing": [], "picture": [load_image(one) for one in made[-1:]]}
    images = shown[request.shows]
    return Step(request, agent.invoke(request.text, images=images, regions=request.regions))


def run(vlm: VisionLLM, folder: Path, requests: Sequence[Request] | None = None) -> DemoReport:
    """Let an agent answer the requests, and write what it found.

    Args:
        vlm: the model.
        folder: is created; gets `scene.png`, `annotated.png` (the first request), `steps.png` (all that
            found something), `replies.json` and `table.txt`.
        requests: what to ask; those of `REQUESTS` whose skill the model has if not given.

    Raises:
        MissingExtraError: LangChain is not installed.
    """
    from visionllm_sdk.agent import VisionAgent

    if requests is None:
        requests = [one for one in REQUESTS if one.skill is None or one.skill in vlm.skills]
    image = demo_scene()
    agent = VisionAgent(vlm)
    steps: list[Step] = []
    for request in requests:
        steps.append(_ask(agent, request, image, steps))
    folder.mkdir(parents=True, exist_ok=True)
    names = ("annotated.png", "steps.png", "replies.json", "table.txt", "scene.png")
    report = DemoReport(tuple(steps), tuple(folder / name for name in names))
    pictures = [step.picture(image.image) for step in steps]
    pictures[0].save(folder / "annotated.png")
    shown = [number for number, step in enumerate(steps) if step.reply.results or step.request.regions] or [0]
    sheet = contact_sheet([pictures[n] for n in shown], [_title(steps[n]) for n in shown], cell=_CELL)
    sheet.save(folder / "steps.png")
    (folder / "replies.json").write_text(
        json.dumps(report.as_dict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    with (folder / "table.txt").open("w", encoding="utf-8") as stream:
        Console(file=stream, width=_WIDTH).print(report.table())
    image.image.save(folder / "scene.png")
    return report


def _title(step: Step) -> str:
    """The request; for one that was answered in words alone, the answer too."""
    words = "" if step.reply.results else f" {step.reply.text}"
    return step.request.text + words


def print_report(report: DemoReport) -> None:
    """Show the table and the files."""
    console = Console()
    if not console.is_terminal:
        console.width = _WIDTH  # a file or a pipe has no width of its own
    console.print(report.table())
    for path in report.files:
        console.print(f"  {path}", style="dim", highlight=False, markup=False)
