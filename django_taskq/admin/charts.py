"""Charts as SVG that a template draws: no style, no script. Text stands beside the drawing, in HTML.

A drawing is WIDTH x HEIGHT units and is stretched to the place it gets (strokes keep their width), so its parts carry
no text: the axes are lists of labels at equal distances, and every chart has its numbers in a table.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

WIDTH, HEIGHT = 1000, 100
Values = Sequence[float | None]
Format = Callable[[float | None], str]
Percentile = Callable[[float], float | None]


@dataclass(slots=True)
class Series:
    """One line of a chart. `look` is the class that gives it colour and dashes; `now` is its newest value, or its
    largest where there are bars."""

    label: str
    values: Values
    look: str
    path: str = ""
    now: str = ""


@dataclass(slots=True)
class Chart:
    """What templates/admin/django_taskq/chart.html draws. `ticks` go from top to bottom, `times` from left to right."""

    id: str
    title: str
    series: list[Series]
    ticks: list[str]
    times: list[str]
    grid: list[str]  # heights
    hover: SafeString  # a strip for each moment, with what there is to say about it
    rows: SafeString  # of the table, the newest first
    bars: bool = False

    @property
    def empty(self) -> bool:
        """Whether there is nothing to draw."""
        return not any(value for series in self.series for value in series.values)


def bars(id: str, title: str, values: Sequence[float], moments: Sequence[str], text: Format, look: str) -> Chart:
    """One bar for each moment, on a scale from 0."""
    top = nice_top(max(values, default=0))
    step = WIDTH / max(1, len(values))
    path = "".join(
        f"M{_n(position * step + step * 0.1)} {HEIGHT}V{_n(_height(value, top))}h{_n(step * 0.8)}V{HEIGHT}z"
        for position, value in enumerate(values)
        if value
    )
    series = [Series(title, values, look, path)]
    return _chart(id, title, series, moments, text, [text(top), text(top / 2), text(0)], is_bars=True)


def lines(id: str, title: str, series: list[Series], moments: Sequence[str], text: Format) -> Chart:
    """Lines on a scale from 0."""
    top = nice_top(max((value or 0 for one in series for value in one.values), default=0))
    for one in series:
        one.path = _line([None if value is None else HEIGHT - value / top * HEIGHT for value in one.values])
    return _chart(id, title, series, moments, text, [text(top), text(top / 2), text(0)])


def decades(
    id: str, title: str, series: list[Series], moments: Sequence[str], text: Format, tick: Callable[[float], str]
) -> Chart:
    """Lines on a logarithmic scale of powers of ten: spans of time differ by orders of magnitude."""
    values = [value for one in series for value in one.values if value]
    low = math.floor(math.log10(min(values, default=0.001)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=1.0))))
    every = math.ceil((high - low) / 4)  # five labels at most
    high = low + every * math.ceil((high - low) / every)
    for one in series:
        heights = [value and (high - math.log10(value)) / (high - low) * HEIGHT for value in one.values]
        one.path = _line([height if value else None for height, value in zip(heights, one.values, strict=True)])
    return _chart(id, title, series, moments, text, [tick(10.0**power) for power in range(high, low - 1, -every)])


def sparkline(values: Values, width: int = 120, height: int = 24) -> str:
    """The points of a small polyline, from 0 to its own largest value."""
    known = [value or 0 for value in values]
    top, step = max(known, default=0) or 1, width / max(1, len(known) - 1)
    return " ".join(f"{_n(x * step)},{_n(1 + (height - 2) * (1 - value / top))}" for x, value in enumerate(known))


def nice_top(most: float) -> float:
    """The end of a scale: 1, 2 or 5 times a power of ten, and even, so that its half is a whole number."""
    if most <= 2:
        return 2
    power = 10.0 ** math.floor(math.log10(most))
    return next(power * factor for factor in (1, 2, 4, 5, 6, 8, 10) if power * factor >= most)


def _chart(
    id: str,
    title: str,
    series: list[Series],
    moments: Sequence[str],
    text: Format,
    ticks: list[str],
    is_bars: bool = False,
) -> Chart:
    cells = [[text(one.values[position]) for one in series] for position in range(len(moments))]
    for one in series:
        known = [value for value in one.values if value is not None]
        one.now = text((max(known) if is_bars else known[-1]) if known else None)
    quarter = max(1, (len(moments) - 1) // 4)
    times = [moments[min(position * quarter, len(moments) - 1)] for position in range(5)] if moments else []
    grid = [_n(HEIGHT * position / (len(ticks) - 1)) for position in range(len(ticks))]
    hover, rows = _hover(series, moments, cells), _rows(moments, cells)
    return Chart(id, title, series, ticks, times, grid, hover, rows, bars=is_bars)


def _hover(series: Sequence[Series], moments: Sequence[str], cells: Sequence[Sequence[str]]) -> SafeString:
    step = WIDTH / max(1, len(moments))
    return format_html_join(
        "",
        '<rect class="tq-hover" x="{}" y="0" width="{}" height="100"><title>{}: {}</title></rect>',
        (
            (
                _n(position * step), _n(step), moment,
                ", ".join(f"{one.label} {cell}" for one, cell in zip(series, of_moment, strict=True)),
            )
            for position, (moment, of_moment) in enumerate(zip(moments, cells, strict=True))
        ),
    )  # fmt: skip


def _rows(moments: Sequence[str], cells: Sequence[Sequence[str]]) -> SafeString:
    columns = len(cells[0]) if cells else 0
    row = '<tr data-key="{}"><th scope="row">{}</th>' + '<td class="tq-number">{}</td>' * columns + "</tr>"
    pairs = list(zip(moments, cells, strict=True))
    return format_html_join("", row, ((moment, moment, *of_moment) for moment, of_moment in reversed(pairs)))


def _height(value: float, top: float) -> float:
    """What is not nothing is at least to be seen."""
    return min(HEIGHT - HEIGHT * value / top, HEIGHT - 3)


def _line(heights: Values) -> str:
    """A path in the middle of each moment, with gaps where nothing is known."""
    step, path, pen_down = WIDTH / max(1, len(heights)), [], False
    for position, height in enumerate(heights):
        if height is None:
            pen_down = False
            continue
        x, y = _n((position + 0.5) * step), _n(min(HEIGHT, max(0.0, height)))
        # A dot where a line would have no length: it is round, as its ends are.
        path.append(f"L{x} {y}" if pen_down else f"M{x} {y}h.01")
        pen_down = True
    return "".join(path)


def _n(number: float) -> str:
    return f"{number:.1f}".removesuffix(".0")
