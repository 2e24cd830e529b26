"""A report as tables to read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from visionllm_sdk.evaluation.report import BarResult, EvaluationReport, SkillReport

if TYPE_CHECKING:
    from rich.table import Table


def tables(report: EvaluationReport) -> Iterator[Table | str]:
    """Figures with their bars, slices, and contingency tables; for `rich.print`."""
    yield _figures(report)
    for name, skill in report.skills.items():
        for division in skill.slices:
            yield _slices(name, division, skill)
        for title in skill.tables:
            yield _contingency(name, title, skill)
    missed = report.failed()
    yield (
        f"[red]{len(missed)} of {len(report.bars)} bars missed[/red]"
        if missed
        else f"[green]all {len(report.bars)} bars met[/green]"
    ) + f" · {report.scenes} scenes ({report.source}) · {report.seconds:.0f} s"


def _figures(report: EvaluationReport) -> Table:
    from rich.table import Table

    table = Table("skill", "figure", "value", "bar", "", title=f"{report.scenes} scenes: {report.source}")
    bars = {(bar.skill, bar.figure): bar for bar in report.bars}
    for name, skill in report.skills.items():
        table.add_section()
        title = f"{name} ({skill.seconds:.0f} s)"
        named = dict(skill.figures) | {
            figure: bar.value for (owner, figure), bar in bars.items() if owner == name and "." in figure
        }
        for figure, value in named.items():
            table.add_row(title, figure, _number(value), *_verdict(bars.get((name, figure))))
            title = ""
    return table


def _slices(name: str, division: str, skill: SkillReport) -> Table:
    from rich.table import Table

    parts = skill.slices[division]
    columns = list(dict.fromkeys(figure for figures in parts.values() for figure in figures))
    table = Table(division, *columns, title=f"{name} by {division}")
    for part, figures in parts.items():
        table.add_row(part, *(_number(figures.get(column)) for column in columns))
    return table


def _contingency(name: str, title: str, skill: SkillReport) -> Table:
    from rich.table import Table

    rows = skill.tables[title]
    columns = sorted({column for row in rows.values() for column in row})
    table = Table("wanted \\ given", *columns, title=f"{name}: {title}")
    for row in sorted(rows):
        table.add_row(row, *(str(rows[row].get(column, 0)) for column in columns))
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return str(int(value)) if isinstance(value, int) else f"{value:.3f}"


def _verdict(bar: BarResult | None) -> tuple[str, str]:
    if bar is None:
        return "", ""
    limit = f">= {bar.at_least:g}" if bar.at_least is not None else f"<= {bar.at_most:g}"
    return limit, "[green]met[/green]" if bar.passed else "[red]missed[/red]"
