"""Draw the plots of a report as SVG: no fixed size, colours from the page's style, text escaped.

A plot is `WIDTH` units wide, so that a unit is about a pixel on a phone. The page's style sheet
defines the classes `plot`, `axis`, `grid`, `zero`, `label`, `name`, and `s0`, `s1`, ... for series.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

WIDTH = 420
_NAME_WIDTH = 188
_CHARACTER_WIDTH = 6.3  # rough mean width in legends
_ROW_HEIGHT = 20
_LEGEND_START = 40.0
_ROUNDING = 1e-9
# Style of a system's group in forest plots; that of baselines is s0.
_GROUP_STYLES = {"ablation": "s1", "model": "s2"}

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """Map values from `low`..`high` to units from `start`..`end`, linearly or by logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def position(self, value: float) -> float:
        """Return the position of a value; values outside the axis are clamped to its ends."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        clamped = min(max(value, self.low), self.high)
        share = (scale(clamped) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self, max_count: int = 5) -> list[float]:
        """Return round values along the axis."""
        if self.log:
            first = math.ceil(math.log10(self.low) - _ROUNDING)
            last = math.floor(math.log10(self.high) + _ROUNDING)
            return [10.0**power for power in range(first, last + 1)]
        step = _round_step((self.high - self.low) / max_count)
        first = math.ceil(self.low / step - _ROUNDING)
        last = math.floor(self.high / step + _ROUNDING)
        return [number * step for number in range(first, last + 1)]


@dataclass(slots=True)
class _Drawing:
    """Elements of a plot, and its height."""

    height: float
    elements: list[str] = field(default_factory=list)

    def add(self, tag: str, text: str = "", **attributes: object) -> None:
        """Add an element; `_` in an attribute's name becomes `-`, a trailing one is dropped."""
        opening = f"<{tag}"
        for name, value in attributes.items():
            html_name = name.rstrip("_").replace("_", "-")
            opening += f' {html_name}="{escape(_format_units(value))}"'
        self.elements.append(f"{opening}>{escape(text)}</{tag}>")

    def line(self, start: Point, end: Point, style: str) -> None:
        """Add a line."""
        self.add("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=style)

    def text(self, point: Point, text: str, anchor: str = "start", style: str = "label") -> None:
        """Add a text, anchored at its `start`, `middle` or `end`."""
        self.add("text", text, x=point[0], y=point[1], text_anchor=anchor, class_=style)

    def dot(self, point: Point, radius: float, style: str) -> None:
        """Add a circle."""
        self.add("circle", cx=point[0], cy=point[1], r=radius, class_=style)

    def to_svg(self, label: str) -> Markup:
        """Return the plot with a text alternative for screen readers."""
        body = "".join(self.elements)
        box = f"0 0 {WIDTH} {_format_units(self.height)}"
        attributes = f'viewBox="{box}" role="img" aria-label="{escape(label)}"'
        # Everything in the elements is escaped in `add`.
        return Markup(f'<svg class="plot" {attributes}>{body}</svg>')  # noqa: S704


def _format_units(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _round_step(min_step: float) -> float:
    """Return the smallest round number that is at least `min_step`."""
    magnitude: float = 10.0 ** math.floor(math.log10(min_step))
    for factor in (1, 2, 2.5, 5):
        if factor * magnitude >= min_step * (1 - _ROUNDING):
            return factor * magnitude
    return 10 * magnitude


def _format_tick(value: float) -> str:
    text = f"{value:.4f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.0f}"
    return text.replace("-", "−") if text.strip("-0") else "0"


def _grid_style(value: float) -> str:
    return "zero" if abs(value) < _ROUNDING else "grid"


# --- differences between systems ----------------------------------------------------------------


def draw_forest(
    cells: Mapping[str, Mapping[str, Any] | None], systems: Iterable[Mapping[str, str]], metric: str
) -> Markup:
    """Draw each system's difference from the assistant with its interval, a row per system.

    Dots are filled if the interval excludes 0.
    """
    groups = {system["name"]: system["group"] for system in systems}
    differences = {}
    for name, cell in cells.items():
        if cell and cell["difference"]:
            differences[name] = cell["difference"]
    height = _ROW_HEIGHT * len(differences)
    drawing = _Drawing(height=height + 44)
    axis = _axis_around_zero(differences.values())
    _draw_forest_axis(drawing, axis, height + 8)
    summary = []
    for number, (name, difference) in enumerate(differences.items()):
        y = _ROW_HEIGHT * number + 16
        drawing.text((_NAME_WIDTH, y + 4), name, "end", "name")
        _draw_whisker(drawing, axis, y, difference, _GROUP_STYLES.get(groups[name], "s0"))
        summary.append(f"{name} {difference['mean']:+.2f}")
    return drawing.to_svg(f"Difference in {metric} from the assistant: {'; '.join(summary)}")


def _axis_around_zero(differences: Iterable[Mapping[str, float]]) -> Axis:
    """Return an axis that holds 0 and all the intervals, with some margin."""
    ends = [0.0]
    for difference in differences:
        ends += [difference["low"], difference["high"]]
    low, high = min(ends), max(ends)
    margin = max(0.06 * (high - low), 0.01)
    return Axis(low - margin, high + margin, _NAME_WIDTH + 8, WIDTH - 14)


def _draw_forest_axis(drawing: _Drawing, axis: Axis, bottom: float) -> None:
    for value in axis.ticks():
        x = axis.position(value)
        drawing.line((x, 4), (x, bottom), _grid_style(value))
        drawing.text((x, bottom + 15), _format_tick(value), "middle")
    zero = axis.position(0)
    drawing.text((zero - 4, bottom + 31), "← worse", "end", "label soft")
    if zero + 60 < WIDTH:
        drawing.text((zero + 4, bottom + 31), "better →", style="label soft")


def _draw_whisker(
    drawing: _Drawing, axis: Axis, y: float, difference: Mapping[str, float], series: str
) -> None:
    excludes_zero = difference["low"] > 0 or difference["high"] < 0
    low, high = axis.position(difference["low"]), axis.position(difference["high"])
    drawing.line((low, y), (high, y), f"whisker {series}")
    style = f"dot {series}" if excludes_zero else f"dot hollow {series}"
    drawing.dot((axis.position(difference["mean"]), y), 4, style)


# --- curves -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Frame:
    """Axis labels and scales of a plot of curves.

    `fits_low` lets y begin above 0, `steps` draws curves as steps.
    """

    x_label: str
    y_label: str
    log: bool = False
    fits_low: bool = False
    steps: bool = False


def draw_recall(curves: Mapping[str, Sequence[float]]) -> Markup:
    """Draw recall among the first k retrieved papers against k, a curve for each system."""
    series = {}
    for name, curve in curves.items():
        series[name] = [(float(k), value) for k, value in enumerate(curve, 1)]
    frame = _Frame("papers retrieved, k", "recall@k", log=True, fits_low=True)
    return _draw_curves(series, frame, (1.0, 100.0))


def draw_risk(risk: Mapping[str, Any]) -> Markup:
    """Draw risk against coverage, the risk of a random order, and the operating point."""
    series = {
        "by confidence": [(float(coverage), float(value)) for coverage, value in risk["curve"]],
        "random order": [(0.0, risk["random_aurc"]), (1.0, risk["random_aurc"])],
    }
    operating_point = risk["operating_point"]
    marks = []
    if operating_point:
        marks.append((operating_point["coverage"], operating_point["risk"]))
    frame = _Frame("coverage: share of questions answered", "risk: mean loss")
    return _draw_curves(series, frame, (0.0, 1.0), marks)


def draw_calibration(calibration: Mapping[str, Any], outcome: str) -> Markup:
    """Draw the share of an outcome against the confidence, a dot per bin, and the ideal line."""
    points = [(item["confidence"], item["outcome"]) for item in calibration["bins"]]
    series = {"observed": points, "ideal": [(0.0, 0.0), (1.0, 1.0)]}
    frame = _Frame("confidence", f"share {outcome}")
    return _draw_curves(series, frame, (0.0, 1.0), points)


def draw_seconds(seconds: Mapping[str, Mapping[str, Any]], systems: Iterable[str]) -> Markup:
    """Draw the cumulative distribution of the seconds per reply, a curve for each system."""
    series, all_seconds = {}, []
    for name in systems:
        times = [max(float(time), 1e-4) for time in seconds[name]["sorted"]]
        series[name] = [(time, rank / len(times)) for rank, time in enumerate(times, 1)]
        all_seconds += times
    low = float(10 ** math.floor(math.log10(min(all_seconds))))
    high = float(10 ** math.ceil(math.log10(max(all_seconds)) + _ROUNDING))
    frame = _Frame("seconds", "share of replies", log=True, steps=True)
    return _draw_curves(series, frame, (low, high if high > low else 10 * low))


def _draw_curves(
    series: Mapping[str, Sequence[Point]],
    frame: _Frame,
    x_range: tuple[float, float],
    marks: Iterable[Point] = (),
) -> Markup:
    legend = _layout_legend(series)
    top = 18 * len(legend) + 10
    drawing = _Drawing(height=top + 232)
    x = Axis(*x_range, 40, WIDTH - 14, frame.log)
    y = Axis(_lowest_tick(series) if frame.fits_low else 0.0, 1.0, top + 190, top)
    _draw_axes(drawing, x, y, frame)
    _draw_legend(drawing, legend)
    for number, curve in enumerate(series.values()):
        drawing.add("path", d=_curve_path(curve, x, y, frame.steps), class_=f"curve s{number}")
    for mark in marks:
        drawing.dot((x.position(mark[0]), y.position(mark[1])), 5, "dot mark")
    return drawing.to_svg(f"{frame.y_label} against {frame.x_label}, of {', '.join(series)}")


def _lowest_tick(series: Mapping[str, Sequence[Point]]) -> float:
    """Return the multiple of 0.2 below all values, at most 0.8."""
    lowest = 1.0
    for curve in series.values():
        for _, value in curve:
            lowest = min(lowest, value)
    return min(0.8, math.floor(5 * lowest) / 5)


def _draw_axes(drawing: _Drawing, x: Axis, y: Axis, frame: _Frame) -> None:
    for value in y.ticks():
        tick_y = y.position(value)
        drawing.line((x.start, tick_y), (x.end, tick_y), "grid")
        drawing.text((x.start - 7, tick_y + 4), _format_tick(value), "end")
    for value in x.ticks():
        tick_x = x.position(value)
        drawing.line((tick_x, y.start), (tick_x, y.start + 4), "axis")
        drawing.text((tick_x, y.start + 18), _format_tick(value), "middle")
    drawing.line((x.start, y.start), (x.end, y.start), "axis")
    x_middle, y_middle = (x.start + x.end) / 2, (y.start + y.end) / 2
    drawing.text((x_middle, y.start + 37), frame.x_label, "middle", "label soft")
    drawing.add(
        "text",
        frame.y_label,
        transform=f"rotate(-90 9 {_format_units(y_middle)})",
        x=9,
        y=y_middle,
        text_anchor="middle",
        class_="label soft",
    )


@dataclass(frozen=True, slots=True)
class _LegendEntry:
    series: int
    name: str
    x: float


def _layout_legend(names: Iterable[str]) -> list[list[_LegendEntry]]:
    """Return the legend's entries in as many rows as they need."""
    rows: list[list[_LegendEntry]] = [[]]
    x = _LEGEND_START
    for number, name in enumerate(names):
        width = 26 + _CHARACTER_WIDTH * len(name) + 14
        if rows[-1] and x + width > WIDTH:
            rows.append([])
            x = _LEGEND_START
        rows[-1].append(_LegendEntry(number, name, x))
        x += width
    return rows


def _draw_legend(drawing: _Drawing, rows: Sequence[Sequence[_LegendEntry]]) -> None:
    for number, row in enumerate(rows):
        y = 18 * number + 10
        for entry in row:
            drawing.line((entry.x, y - 4), (entry.x + 20, y - 4), f"curve s{entry.series}")
            drawing.text((entry.x + 26, y), entry.name, style="name")


def _curve_path(curve: Sequence[Point], x: Axis, y: Axis, steps: bool) -> str:
    """Return the path of a line through the points, or of steps up to them."""
    path = ""
    for number, point in enumerate(curve):
        left, height = _format_units(x.position(point[0])), _format_units(y.position(point[1]))
        if number == 0:
            path = f"M{left} {_format_units(y.start)}V{height}" if steps else f"M{left} {height}"
        else:
            path += f"H{left}V{height}" if steps else f"L{left} {height}"
    return path


# --- bars and dumbbells -------------------------------------------------------------------------


def draw_gains(comparison: Mapping[str, Any], system: str) -> Markup:
    """Draw the assistant's gain over a system on each question, sorted, a bar each."""
    gains = comparison["gains"]
    drawing = _Drawing(height=210)
    x = Axis(0, max(len(gains), 1), 40, WIDTH - 14)
    reach = max(1.0, *map(abs, gains))
    y = Axis(-reach, reach, 176, 10)
    for value in y.ticks(4):
        tick_y = y.position(value)
        drawing.line((x.start, tick_y), (x.end, tick_y), _grid_style(value))
        drawing.text((x.start - 7, tick_y + 4), _format_tick(value), "end")
    for style, sign in (("up", 1), ("down", -1)):
        bars = ""
        for number, gain in enumerate(gains):
            if gain * sign > 0:
                bars += _bar_path(x, y, number, gain)
        if bars:
            drawing.add("path", d=bars, class_=style)
    caption = f"{len(gains)} questions, sorted"
    drawing.text(((x.start + x.end) / 2, 200), caption, "middle", "label soft")
    counts = "better on {better}, the same on {same}, worse on {worse}".format_map(comparison)
    return drawing.to_svg(f"CRAG score per question, assistant minus {system}: {counts}")


def _bar_path(x: Axis, y: Axis, number: int, value: float) -> str:
    left, right = _format_units(x.position(number)), _format_units(x.position(number + 1))
    zero, height = _format_units(y.position(0)), _format_units(y.position(value))
    return f"M{left} {zero}V{height}H{right}V{zero}z"


def draw_dumbbells(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Draw nugget recall of base questions (hollow) and variants (filled) by kind of variant."""
    complete = [row for row in rows if row["base"] is not None and row["variant"] is not None]
    bottom = 26 * len(complete) + 6
    drawing = _Drawing(height=bottom + 40)
    x = Axis(0, 1, 92, WIDTH - 14)
    for value in x.ticks():
        tick_x = x.position(value)
        drawing.line((tick_x, 4), (tick_x, bottom), "grid")
        drawing.text((tick_x, bottom + 15), _format_tick(value), "middle")
    x_middle = (x.start + x.end) / 2
    drawing.text((x_middle, bottom + 33), "nugget recall", "middle", "label soft")
    summary = []
    for number, row in enumerate(complete):
        y = 26 * number + 18
        base, variant = x.position(row["base"]), x.position(row["variant"])
        drawing.text((x.start - 10, y + 4), row["kind"], "end", "name")
        drawing.line((base, y), (variant, y), "whisker s0")
        drawing.dot((base, y), 4.5, "dot hollow s0")
        drawing.dot((variant, y), 4.5, "dot s0")
        summary.append(f"{row['kind']} {row['base']:.2f} to {row['variant']:.2f}")
    label = f"Nugget recall of base questions and of their variants: {'; '.join(summary)}"
    return drawing.to_svg(label)


def draw_bar(count: int, max_count: int) -> Markup:
    """Draw a horizontal bar whose length is relative to the highest count."""
    share = _format_units(100 * count / max_count)
    return Markup(  # noqa: S704 - numbers only
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{share}" height="8" rx="1"></rect></svg>'
    )
