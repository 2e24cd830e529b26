"""Days and times that a request says, in the way in which JSON writes them."""

from __future__ import annotations

import datetime
import re
from typing import Final

from visionllm_sdk.agent.wordplay import Span

__all__ = ["days_in", "moments_in", "times_in"]

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH: Final = rf"(?P<month>(?:{'|'.join(_MONTHS)})[a-z]*)\.?"
_DAY: Final = r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_YEAR: Final = r"(?P<year>\d{4})"
_DAYS: Final = tuple(
    re.compile(rf"(?<![\w.-]){form}(?![\w-])", re.IGNORECASE | re.ASCII)
    for form in (
        r"(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)",
        rf"{_DAY}(?: of)? {_MONTH},? {_YEAR}",
        rf"{_MONTH} {_DAY},? {_YEAR}",
        r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})",  # `5/3/2024` could be either
    )
)
_ISO_DAY: Final = re.compile(r"(?<![\w.-])(?P<year>\d{4})-(?P<month>\d\d)-(?P<day>\d\d)(?=T\d)", re.ASCII)
_TIME: Final = re.compile(
    r"(?:(?<=\dT)|(?<![\w:.]))(?P<hour>\d{1,2})"
    r"(?::(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.\d+)?)?(?: ?(?P<half>[ap])\.?m\b)?| ?(?P<late>[ap])\.?m\b)"
    r"(?P<zone> ?(?:Z|UTC|GMT)\b|[+-]\d\d:\d\d)?(?![\w:])",
    re.IGNORECASE | re.ASCII,
)


def days_in(text: str) -> list[Span]:
    """Days with their year, as `2024-05-03`, in the order of the text."""
    found = []
    for form in (_ISO_DAY, *_DAYS):
        for match in form.finditer(text):
            month = match["month"].lower()[:3]
            number = int(month) if month.isdigit() else _MONTHS.index(month) + 1
            try:
                day = datetime.date(int(match["year"]), number, int(match["day"]))
            except ValueError:  # the 31st of February is none
                continue
            found.append(Span(value=day.isoformat(), start=match.start(), end=match.end()))
    return sorted(found, key=lambda span: span.start)


def times_in(text: str) -> list[Span]:
    """Times of day, as `14:30:00` and with their zone where one is said, in the order of the text."""
    found = []
    for match in _TIME.finditer(text):
        hour, half = int(match["hour"]), (match["half"] or match["late"] or "").lower()
        if half and not 1 <= hour <= 12:
            continue
        hour = hour % 12 + 12 * (half == "p") if half else hour
        try:
            time = datetime.time(hour, int(match["minute"] or 0), int(match["second"] or 0))
        except ValueError:
            continue
        zone = (match["zone"] or "").strip()
        zone = "Z" if zone[:1].isalpha() else zone
        found.append(Span(value=time.isoformat() + zone, start=match.start(), end=match.end()))
    return found


def moments_in(text: str) -> list[tuple[Span, tuple[Span, ...]]]:
    """Days with the time that is said with each, as `2024-05-03T14:30:00`, and the places that say it.

    A time belongs to the nearest day before it that has none yet, or else to the next one, or it is a further
    one of the day before it; a day without a time begins at midnight.
    """
    further = []
    days = days_in(text)
    times: dict[Span, Span] = {}
    for time in times_in(text):
        before = [day for day in reversed(days) if day.end <= time.start and day not in times]
        after = [day for day in days if day.start >= time.end and day not in times]
        day = next(iter((*before, *after)), None)
        if day is not None:
            times[day] = time
        elif days:
            day = next((day for day in reversed(days) if day.end <= time.start), days[0])
            value = f"{day.value}T{time.value}"
            further.append((Span(value=value, start=time.start, end=time.end), (time,)))
    first = [
        (
            Span(
                value=f"{day.value}T{times[day].value if day in times else '00:00:00'}",
                start=day.start,
                end=day.end,
            ),
            (day, times[day]) if day in times else (day,),
        )
        for day in days
    ]
    return [*first, *further]
