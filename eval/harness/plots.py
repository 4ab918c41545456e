"""Plots as SVG that stands in a page: no size of its own, colours by the page's style, all text escaped.

Every plot is `WIDTH` units wide, so that one unit is about one pixel on a phone and a little more beside others.
Classes that the page's style knows: `plot`, `axis`, `grid`, `zero`, `label`, `name`, and `s0`, `s1`, ... for series.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup, escape

WIDTH = 420
_LABELS = 188
_CHAR = 6.3  # mean width of a character of a legend, roughly
_ROW = 20

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axis:
    """Values from `low` to `high` laid along units from `start` to `end`, even or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def at(self, value: float) -> float:
        """Where a value stands; what lies outside stands at the end."""
        scale: Callable[[float], float] = math.log10 if self.log else float
        inside = min(max(value, self.low), self.high)
        share = (scale(inside) - scale(self.low)) / (scale(self.high) - scale(self.low))
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values along the axis."""
        if self.log:
            first, last = (
                math.ceil(math.log10(self.low) - 1e-9),
                math.floor(math.log10(self.high) + 1e-9),
            )
            return [10.0**power for power in range(first, last + 1)]
        step = _step((self.high - self.low) / most)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [number * step for number in range(first, last + 1)]


@dataclass(slots=True)
class _Drawing:
    """Parts of a plot, and its height."""

    height: float
    parts: list[str] = field(default_factory=list)

    def add(self, tag: str, text: str = "", **attributes: object) -> None:
        """An element; `_` in the name of an attribute is `-`, a last one is dropped."""
        told = "".join(
            f' {name.rstrip("_").replace("_", "-")}="{escape(_short(value))}"'
            for name, value in attributes.items()
        )
        self.parts.append(f"<{tag}{told}>{escape(text)}</{tag}>")

    def line(self, start: Point, end: Point, style: str) -> None:
        self.add("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_=style)

    def text(self, at: Point, text: str, anchor: str = "start", style: str = "label") -> None:
        self.add("text", text, x=at[0], y=at[1], text_anchor=anchor, class_=style)

    def done(self, label: str) -> Markup:
        body = "".join(self.parts)
        box = f"0 0 {WIDTH} {_short(self.height)}"
        return Markup(
            f'<svg class="plot" viewBox="{box}" role="img" aria-label="{escape(label)}">{body}</svg>'
        )  # noqa: S704 - escaped in `add`


def _short(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)


def _step(rough: float) -> float:
    """The next round number."""
    size: float = 10.0 ** math.floor(math.log10(rough))
    return next(
        factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * (1 - 1e-9)
    )


def _tick(value: float) -> str:
    text = f"{value:.3f}".rstrip("0").rstrip(".") if abs(value) < 1000 else f"{value:.0f}"
    return text.replace("-", "−") if text.strip("-0") else "0"


def forest(
    cells: Mapping[str, Mapping[str, Any] | None], systems: Iterable[Mapping[str, str]], metric: str
) -> Markup:
    """Differences of systems to the assistant, with intervals: a row each; filled where the interval is off 0."""
    rows = [
        (name, cell["difference"]) for name, cell in cells.items() if cell and cell["difference"]
    ]
    series = {one["name"]: "s1" if one["group"] == "ablation" else "s0" for one in systems}
    drawing = _Drawing(height=_ROW * len(rows) + 44)
    ends = [value for _, one in rows for value in (one["low"], one["high"])]
    axis = _around_zero(ends, _LABELS + 8, WIDTH - 14)
    foot = _ROW * len(rows) + 8
    for value in axis.ticks():
        drawing.line(
            (axis.at(value), 4), (axis.at(value), foot), "zero" if abs(value) < 1e-9 else "grid"
        )
        drawing.text((axis.at(value), foot + 15), _tick(value), "middle")
    drawing.text((axis.at(0) - 4, foot + 31), "← worse", "end", "label soft")
    if axis.at(0) + 60 < WIDTH:
        drawing.text((axis.at(0) + 4, foot + 31), "better →", style="label soft")
    for number, (name, one) in enumerate(rows):
        _whisker(drawing, axis, _ROW * number + 16, (name, one, series[name]))
    told = "; ".join(f"{name} {one['mean']:+.2f}" for name, one in rows)
    return drawing.done(f"Difference in {metric} to the assistant as used: {told}")


def _whisker(
    drawing: _Drawing, axis: Axis, y: float, row: tuple[str, Mapping[str, float], str]
) -> None:
    name, one, series = row
    clear = one["low"] > 0 or one["high"] < 0
    drawing.text((_LABELS, y + 4), name, "end", "name")
    drawing.line((axis.at(one["low"]), y), (axis.at(one["high"]), y), f"whisker {series}")
    drawing.add(
        "circle",
        cx=axis.at(one["mean"]),
        cy=y,
        r=4,
        class_=f"dot {series}" if clear else f"dot hollow {series}",
    )


def _around_zero(values: Sequence[float], start: float, end: float) -> Axis:
    """An axis that holds 0 and all the values, with some room."""
    low, high = min([0.0, *values]), max([0.0, *values])
    room = max(0.06 * (high - low), 0.01)
    return Axis(low - room, high + room, start, end)


@dataclass(frozen=True, slots=True)
class Frame:
    """What the axes of a plot of curves are called, and how they run; `floor` lets y begin above 0."""

    x: str
    y: str
    log: bool = False
    floor: bool = False
    steps: bool = False


def recall(curves: Mapping[str, Sequence[float]]) -> Markup:
    """Recall among the first k papers found against k."""
    points = {
        name: [(float(k), value) for k, value in enumerate(curve, 1)]
        for name, curve in curves.items()
    }
    return _curves(points, Frame("papers found, k", "recall@k", log=True, floor=True), (1.0, 100.0))


def risk(told: Mapping[str, Any]) -> Markup:
    """Risk against coverage, with the risk of random order and the point at which the assistant stands."""
    curve = [(float(x), float(y)) for x, y in told["curve"]]
    series = {
        "sure ones first": curve,
        "in any order": [(0.0, told["unordered"]), (1.0, told["unordered"])],
    }
    mark = told["operating"] and (told["operating"]["coverage"], told["operating"]["risk"])
    return _curves(
        series, Frame("coverage: share of questions answered", "risk: mean loss"), (0.0, 1.0), mark
    )


def seconds(told: Mapping[str, Mapping[str, Any]], names: Iterable[str]) -> Markup:
    """Share of the replies that took at most so long."""
    points = {
        name: [
            (max(float(x), 1e-4), n / len(told[name]["sorted"]))
            for n, x in enumerate(told[name]["sorted"], 1)
        ]
        for name in names
    }
    every = [x for curve in points.values() for x, _ in curve]
    low, high = (
        10 ** math.floor(math.log10(min(every))),
        10 ** math.ceil(math.log10(max(every)) + 1e-9),
    )
    span = (float(low), float(high if high > low else 10 * low))
    return _curves(points, Frame("seconds", "share of replies", log=True, steps=True), span)


def _curves(
    series: Mapping[str, Sequence[Point]], frame: Frame, span: Point, mark: Point | None = None
) -> Markup:
    legend = _legend_rows(series)
    top = 18 * len(legend) + 10
    drawing = _Drawing(height=top + 232)
    x = Axis(*span, 40, WIDTH - 14, frame.log)
    least = min(value for curve in series.values() for _, value in curve)
    y = Axis(min(0.8, math.floor(5 * least) / 5) if frame.floor else 0.0, 1.0, top + 190, top)
    _axes(drawing, x, y, frame)
    _legend(drawing, legend)
    for number, curve in enumerate(series.values()):
        drawing.add("path", d=_path(curve, x, y, frame.steps), class_=f"curve s{number}")
    if mark:
        drawing.add("circle", cx=x.at(mark[0]), cy=y.at(mark[1]), r=5, class_="dot mark")
    return drawing.done(f"{frame.y} against {frame.x}, of {', '.join(series)}")


def _axes(drawing: _Drawing, x: Axis, y: Axis, frame: Frame) -> None:
    for value in y.ticks():
        drawing.line((x.start, y.at(value)), (x.end, y.at(value)), "grid")
        drawing.text((x.start - 7, y.at(value) + 4), _tick(value), "end")
    for value in x.ticks():
        drawing.line((x.at(value), y.start), (x.at(value), y.start + 4), "axis")
        drawing.text((x.at(value), y.start + 18), _tick(value), "middle")
    drawing.line((x.start, y.start), (x.end, y.start), "axis")
    drawing.text(((x.start + x.end) / 2, y.start + 37), frame.x, "middle", "label soft")
    drawing.add(
        "text", frame.y, transform=f"rotate(-90 9 {_short((y.start + y.end) / 2)})", x=9, y=(y.start + y.end) / 2,
        text_anchor="middle", class_="label soft",
    )  # fmt: skip


def _legend_rows(names: Iterable[str]) -> list[list[tuple[int, str, float]]]:
    """Number, name and place of each series, in as many rows as it takes."""
    rows: list[list[tuple[int, str, float]]] = [[]]
    at = 40.0
    for number, name in enumerate(names):
        width = 26 + _CHAR * len(name) + 14
        if rows[-1] and at + width > WIDTH:
            rows.append([])
            at = 40.0
        rows[-1].append((number, name, at))
        at += width
    return rows


def _legend(drawing: _Drawing, rows: Sequence[Sequence[tuple[int, str, float]]]) -> None:
    for height, row in enumerate(rows):
        for number, name, at in row:
            y = 18 * height + 10
            drawing.line((at, y - 4), (at + 20, y - 4), f"curve s{number}")
            drawing.text((at + 26, y), name, style="name")


def _path(curve: Sequence[Point], x: Axis, y: Axis, steps: bool) -> str:
    """A line through points, or steps up to them."""
    first, *others = [(_short(x.at(one)), _short(y.at(other))) for one, other in curve]
    path = f"M{first[0]} {_short(y.start)}V{first[1]}" if steps else f"M{first[0]} {first[1]}"
    return path + "".join(
        f"H{one}V{other}" if steps else f"L{one} {other}" for one, other in others
    )


def gains(told: Mapping[str, Any], name: str) -> Markup:
    """Differences per question, the greatest first: a bar each."""
    drawing = _Drawing(height=210)
    values = told["gains"]
    x = Axis(0, max(len(values), 1), 40, WIDTH - 14)
    reach = max(1.0, *map(abs, values))
    y = Axis(-reach, reach, 176, 10)
    for value in y.ticks(4):
        drawing.line(
            (x.start, y.at(value)), (x.end, y.at(value)), "zero" if abs(value) < 1e-9 else "grid"
        )
        drawing.text((x.start - 7, y.at(value) + 4), _tick(value), "end")
    for series, sign in (("up", 1), ("down", -1)):
        bars = "".join(_bar(x, y, at, value) for at, value in enumerate(values) if value * sign > 0)
        if bars:
            drawing.add("path", d=bars, class_=series)
    drawing.text(
        ((x.start + x.end) / 2, 200), f"{len(values)} questions, sorted", "middle", "label soft"
    )
    counts = f"better on {told['better']}, the same on {told['same']}, worse on {told['worse']}"
    return drawing.done(f"Difference in worth per question, as used less {name}: {counts}")


def _bar(x: Axis, y: Axis, at: int, value: float) -> str:
    left, right = _short(x.at(at)), _short(x.at(at + 1))
    return f"M{left} {_short(y.at(0))}V{_short(y.at(value))}H{right}V{_short(y.at(0))}z"


def dumbbells(rows: Sequence[Mapping[str, Any]]) -> Markup:
    """Mean facts of base questions (hollow) and of their variants (filled), by the kind of variant."""
    told = [row for row in rows if row["base"] is not None and row["variant"] is not None]
    foot = 26 * len(told) + 6
    drawing = _Drawing(height=foot + 40)
    x = Axis(0, 1, 92, WIDTH - 14)
    for value in x.ticks():
        drawing.line((x.at(value), 4), (x.at(value), foot), "grid")
        drawing.text((x.at(value), foot + 15), _tick(value), "middle")
    drawing.text(((x.start + x.end) / 2, foot + 33), "facts", "middle", "label soft")
    for number, row in enumerate(told):
        y = 26 * number + 18
        drawing.text((x.start - 10, y + 4), row["kind"], "end", "name")
        drawing.line((x.at(row["base"]), y), (x.at(row["variant"]), y), "whisker s0")
        drawing.add("circle", cx=x.at(row["base"]), cy=y, r=4.5, class_="dot hollow s0")
        drawing.add("circle", cx=x.at(row["variant"]), cy=y, r=4.5, class_="dot s0")
    said = "; ".join(f"{row['kind']} {row['base']:.2f} to {row['variant']:.2f}" for row in told)
    return drawing.done(f"Facts of base questions and of their variants: {said}")


def bar(count: int, most: int) -> Markup:
    """A bar for a list: as long as a count is of the greatest."""
    share = _short(100 * count / most)
    return Markup(  # noqa: S704 - numbers only
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect width="{share}" height="8" rx="1"></rect></svg>'
    )
