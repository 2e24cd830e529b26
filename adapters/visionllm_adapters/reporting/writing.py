"""The report as Markdown (the model card), JSON and HTML, with pictures before and after."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from visionllm_adapters.folder import CARD, Manifest
from visionllm_adapters.reporting.report import FinetuneReport, SkillChange, peak_memory
from visionllm_sdk.drawing import contact_sheet

JSON_REPORT: Final = "report.json"
HTML_REPORT: Final = "report.html"
_PICTURES: Final = 6
_CELL: Final = 360
Table = list[list[str]]


def write_report(report: FinetuneReport, folder: Path, manifest: Manifest) -> None:
    """Write model card, JSON and HTML, and a sheet of pictures for every skill that has some."""
    sheets = {}
    for name, change in report.skills.items():
        sheet = before_after(change)
        if sheet is not None:
            sheet.save(folder / f"{name}.png")
            sheets[name] = f"{name}.png"
    sections = _sections(report, manifest, sheets)
    (folder / CARD).write_text(_markdown(manifest, sections), encoding="utf-8")
    (folder / HTML_REPORT).write_text(_page(report, sections), encoding="utf-8")
    content = json.dumps(report.as_dict(), indent=2, ensure_ascii=False)
    (folder / JSON_REPORT).write_text(content + "\n", encoding="utf-8")


def before_after(change: SkillChange, limit: int = _PICTURES) -> Image.Image | None:
    """Pairs of pictures, those that changed most first; None where nothing was drawn."""
    keys = [key for key, _, _ in change.changed() if key in change.before.drawings]
    keys += [key for key in change.after.drawings if key in change.before.drawings and key not in keys]
    shown = [key for key in keys if key in change.after.drawings][:limit]
    cells = []
    for key in shown:
        for word, score in (("before", change.before), ("after", change.after)):
            told = f" ({score.verdicts[key]:.2f})" if key in score.verdicts else ""
            cells.append(_cell(score.drawings[key], f"{word}{told}: {key}"))
    return contact_sheet(cells, columns=min(4, len(cells)), cell=_CELL) if cells else None


def _cell(picture: Image.Image, text: str) -> Image.Image:
    cell = Image.new("RGB", (_CELL, _CELL), (255, 255, 255))
    small = picture.copy()
    small.thumbnail((_CELL, _CELL - 20))
    cell.paste(small, ((_CELL - small.width) // 2, 0))
    ImageDraw.Draw(cell).text((4, _CELL - 18), text[:58], font=ImageFont.load_default(13), fill=(32, 36, 44))
    return cell


def _number(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-" if value is None else str(value)


Section = tuple[str, list[str], Table, str | None]
"""Heading, paragraphs, table (its head first), picture."""


def _sections(report: FinetuneReport, manifest: Manifest, sheets: dict[str, str]) -> Iterable[Section]:
    found: list[Section] = []
    for name, change in report.skills.items():
        found.append((f"Skill: {name}", _remarks(report, change), _skill_table(change), sheets.get(name)))
        if change.after.classes:
            found.append((f"Classes: {name}", [], _class_table(change), None))
    if report.base_before:
        rows = [["skill", "before", "after", "change"]]
        for name, value in report.base_before.items():
            after = report.base_after.get(name, 0.0)
            rows.append([name, _number(value), _number(after), f"{after - value:+.3f}"])
        found.append(("What the base could do, with the adapter", [], rows, None))
    rows = [["what", "how much"], *([name, value] for name, value in _costs(report).items())]
    found.append(("Cost", list(report.progress.notes), rows, None))
    data = json.dumps(dict(manifest.data), ensure_ascii=False, indent=1)
    found.append(("Data", [data], [], None))
    return found


def _remarks(report: FinetuneReport, change: SkillChange) -> list[str]:
    changed = change.changed()
    better = sum(after > before for _, before, after in changed)
    judged = bool(change.after.verdicts)  # poses are judged as a whole
    lines = [f"{better} items are answered better, {len(changed) - better} worse."] if judged else []
    if report.by_heart:
        lines.append(
            "Measured on the training pictures: this says what was learnt by heart, not what was understood."
        )
    return lines


def _skill_table(change: SkillChange) -> Table:
    rows = [["figure", "before", "after"]]
    for name, value in change.after.figures.items():
        rows.append([name, _number(change.before.figures.get(name)), _number(value)])
    return rows


def _class_table(change: SkillChange) -> Table:
    names = list(next(iter(change.after.classes.values())))[:2]
    rows = [["class", *(f"{name} {word}" for name in names for word in ("before", "after"))]]
    for label, after in change.after.classes.items():
        before = change.before.classes.get(label, {})
        rows.append([label, *(_number(part.get(name)) for name in names for part in (before, after))])
    return rows


def _costs(report: FinetuneReport) -> dict[str, str]:
    return {
        "parameters that learnt": f"{report.parameters:,}",
        "steps": str(report.progress.step),
        "best step": str(report.progress.best_step),
        "minutes of training": f"{report.progress.elapsed / 60:.1f}",
        "minutes in all": f"{report.seconds / 60:.1f}",
        "peak memory": f"{peak_memory()} GB",
    }


def _markdown(manifest: Manifest, sections: Iterable[Section]) -> str:
    head = [
        "---",
        "library_name: peft",
        f"base_model: {manifest.base_name}",
        "tags: [visionllm-sdk, lora]",
        "---",
        "# Adapter for visionllm-sdk",
        "",
        f"Taught: {', '.join(manifest.skills)}. Classes: {', '.join(manifest.labels) or 'none'}.",
        "",
        "```python",
        "name = vlm.load_adapter(folder)",
        "vlm.detect(image, labels, adapter=name)",
        "```",
    ]
    body: list[str] = []
    for heading, paragraphs, table, picture in sections:
        body += ["", f"## {heading}", *(line for text in paragraphs for line in ("", text))]
        if table:
            body += ["", f"| {' | '.join(table[0])} |", f"|{' --- |' * len(table[0])}"]
            body += [f"| {' | '.join(row)} |" for row in table[1:]]
        body += ["", f"![{heading}]({picture})"] if picture else []
    return "\n".join([*head, *body, "", "![curves](curves.png)", ""])


def _page(report: FinetuneReport, sections: Iterable[Section]) -> str:
    parts = []
    for heading, paragraphs, table, picture in sections:
        parts.append(f"<h2>{html.escape(heading)}</h2>")
        parts += [f"<pre>{html.escape(text)}</pre>" for text in paragraphs]
        if table:
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table[0])
            rows = "".join(
                "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
                for row in table[1:]
            )
            parts.append(f"<table><tr>{head}</tr>{rows}</table>")
        parts += [f'<img src="{picture}" alt="{html.escape(heading)}">'] if picture else []
    style = (
        "body{font-family:sans-serif;max-width:72em;margin:2em auto;color:#20242c}"
        "table{border-collapse:collapse}td,th{border:1px solid #ccc;padding:.2em .6em;text-align:right}"
        "td:first-child,th:first-child{text-align:left}img{max-width:100%}pre{white-space:pre-wrap}"
    )
    title = html.escape(f"Adapter {report.path.name}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        f"<style>{style}</style><h1>{title}</h1>{''.join(parts)}"
        '<h2>Curves</h2><img src="curves.png" alt="losses and scores over the steps"></html>\n'
    )
