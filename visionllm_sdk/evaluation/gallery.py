"""A sheet of successes and failures to look at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from PIL import Image, ImageDraw, ImageFont, ImageOps

from visionllm_sdk.drawing import contact_sheet

_CELL: Final = 320
_LINES: Final = 4
_TEXT: Final = 14
_FRAME: Final = 5
_SIDE: Final = _CELL + 2 * _FRAME
_RIGHT: Final = (0, 150, 90)
_WRONG: Final = (214, 40, 57)


@dataclass(frozen=True, slots=True)
class Example:
    """One request with its outcome: the picture with the result drawn in, and what to read beside it."""

    right: bool
    picture: Image.Image
    text: str
    kind: str = ""


@dataclass(slots=True)
class Gallery:
    """Keeps the first few successes and more of the first failures.

    Attributes:
        successes: how many at most.
        failures: how many at most.
        per_kind: of these, how many of one kind of request at most.
    """

    successes: int = 3
    failures: int = 9
    per_kind: int = 9
    examples: list[Example] = field(default_factory=list)

    def wants(self, right: bool, kind: str = "") -> bool:
        """Whether another example of this outcome has room; ask before drawing one."""
        kept = [example.kind for example in self.examples if example.right == right]
        return len(kept) < (self.successes if right else self.failures) and kept.count(kind) < self.per_kind

    def add(self, right: bool, picture: Image.Image, text: str, kind: str = "") -> None:
        """Keep an example, reduced to the size of a cell, if there is room."""
        if self.wants(right, kind):
            small = picture.convert("RGB")
            small.thumbnail((_CELL, _CELL))
            self.examples.append(Example(right, small, text, kind))


def sheet(galleries: dict[str, Gallery], *, columns: int = 6) -> Image.Image | None:
    """All examples, skill by skill, failures first; framed green when right and red when wrong.

    Returns:
        The sheet, None when no example was kept.
    """
    cells: list[Image.Image] = []
    for skill, gallery in galleries.items():
        ordered = sorted(gallery.examples, key=lambda example: example.right)
        row = [_cell(skill, example) for example in ordered]
        blank = Image.new("RGB", (_SIDE, _SIDE), (246, 247, 249))
        cells += row + [blank] * (-len(row) % columns)
    return contact_sheet(cells, columns=columns, cell=_SIDE) if cells else None


def _cell(skill: str, example: Example) -> Image.Image:
    """A square cell: picture above, text below, a frame around."""
    colour = _RIGHT if example.right else _WRONG
    cell = Image.new("RGB", (_SIDE, _SIDE), (255, 255, 255))
    room = _CELL - _LINES * (_TEXT + 3) - 4
    picture = ImageOps.contain(example.picture, (_CELL, room))
    cell.paste(picture, ((_SIDE - picture.width) // 2, _FRAME + (room - picture.height) // 2))
    painter = ImageDraw.Draw(cell)
    painter.rectangle((0, 0, _SIDE - 1, _SIDE - 1), outline=colour, width=_FRAME)
    font = ImageFont.load_default(_TEXT)
    for number, line in enumerate(_wrapped(f"{skill}: {example.text}", font, _CELL - 8)):
        painter.text(
            (_FRAME + 4, _FRAME + room + 4 + number * (_TEXT + 3)), line, font=font, fill=(32, 36, 44)
        )
    return cell


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> Iterable[str]:
    """At most `_LINES` lines no wider than `width`; the last is cut with dots."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    if len(lines) > _LINES:
        lines = [*lines[: _LINES - 1], lines[_LINES - 1] + " ..."]
    return lines
