"""Forest plots: one row a subject, its value and its interval; and caterpillars, where there are many.

Every audit has one, so it is written straight as SVG: matplotlib takes a tenth of a second for each, which
thirty audits would feel.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from xml.etree import ElementTree

from rlhf_audit.reports.svg import (
    AXIS,
    BAND,
    BLUE,
    FAINT,
    GRID,
    INK,
    NAMESPACE,
    ORANGE,
    PAPER,
    WIDTH_IN,
    accessible,
)

MOST_LABELLED = 30
"""More rows than this are drawn as a caterpillar, where only what is flagged is named."""
MOST_DRAWN = 400
MOST_NAMED = 24
_WIDTH = WIDTH_IN * 72
_ROW, _HIGHEST, _TOP, _BOTTOM, _RIGHT = 14.5, 330.0, 19.0, 17.0, 8.0
_LETTER = 4.85
_LINE = 9.5
_FONT = "font-size:8px;font-family:'DejaVu Sans',sans-serif;fill:"


@dataclass(frozen=True)
class Mark:
    """One row.

    Attributes:
        label: Already fit to print.
        inner: A thick bar within the interval, such as the middle half.
    """

    label: str
    value: float
    lower: float | None
    upper: float | None
    flagged: bool
    inner: tuple[float, float] | None = None


@dataclass(frozen=True)
class Scale:
    """The axis.

    Attributes:
        words: Its label, in lines.
        neutral: Where there is nothing to see: a line.
        limits: The audit's thresholds: dashed lines.
        band: Shaded.
        within: Bounds that the axis never leaves.
        log: Drawn to powers of ten where the values span more than a factor of 20.
    """

    words: Sequence[str]
    neutral: float | None = None
    limits: Sequence[float] = field(default=())
    band: tuple[float, float] | None = None
    within: tuple[float, float] = (-math.inf, math.inf)
    log: bool = False


class _Sheet:
    """Turns values into places, and collects what is drawn."""

    def __init__(self, marks: Sequence[Mark], scale: Scale) -> None:
        labelled = [mark for mark in marks if mark.flagged] if len(marks) > MOST_LABELLED else marks
        self.left = min(150.0, 14 + _LETTER * max((len(mark.label) for mark in labelled), default=4))
        self.row = min(_ROW, _HIGHEST / len(marks))
        named = min(len(labelled), MOST_NAMED if len(marks) > MOST_LABELLED else MOST_LABELLED)
        self.below = _TOP + max(self.row * len(marks), _LINE * named, 2 * _ROW)
        self.height = self.below + _BOTTOM + 10 * len(scale.words)
        ends = [end for mark in marks for end in (mark.lower, mark.upper) if end is not None]
        self.log = scale.log and min(ends) > 0 and max(ends) / min(ends) > 20
        self.low, self.high = _bounds(marks, scale, self.log)
        self.root = ElementTree.Element(
            f"{{{NAMESPACE}}}svg", {"viewBox": f"0 0 {_WIDTH:g} {self.height:.1f}"}
        )

    def x(self, value: float) -> float:
        scaled = math.log10(value) if self.log else value
        share = (scaled - self.low) / (self.high - self.low)
        return self.left + min(1.0, max(0.0, share)) * (_WIDTH - _RIGHT - self.left)

    def add(self, tag: str, style: str, **attributes: str | float) -> ElementTree.Element:
        plain = {
            name.replace("_", "-"): value if isinstance(value, str) else f"{value:.2f}"
            for name, value in attributes.items()
        }
        return ElementTree.SubElement(self.root, f"{{{NAMESPACE}}}{tag}", plain | {"style": style})

    def write(self, x: float, y: float, text: str, anchor: str = "start", colour: str = INK) -> None:
        self.add("text", f"{_FONT}{colour}", x=x, y=y, text_anchor=anchor).text = text

    def upright(self, value: float, style: str) -> None:
        self.add("path", style, d=f"M{self.x(value):.2f} {_TOP:.2f}V{self.below:.2f}")


def forest(uid: str, title: str, description: str, marks: Sequence[Mark], scale: Scale) -> str:
    """Return a drawing of rows, from top to bottom as given.

    Args:
        uid: Unique on the page.
        title: The figure's name for a screen reader.
        description: What there is to see, in words.
        marks: At least one; more than ``MOST_LABELLED`` become a caterpillar.
        scale: The axis below.
    """
    sheet = _Sheet(marks, scale)
    _axis(sheet, scale)
    heights = [_TOP + sheet.row * (place + 0.5) for place in range(len(marks))]
    if len(marks) <= MOST_LABELLED:
        for mark, y in zip(marks, heights, strict=True):
            sheet.write(sheet.left - 6, y + 2.8, _label(mark), "end")
    else:
        _names(sheet, [(mark, y) for mark, y in zip(marks, heights, strict=True) if mark.flagged])
    for flagged in (False, True):
        rows = [(mark, y) for mark, y in zip(marks, heights, strict=True) if mark.flagged is flagged]
        _rows(sheet, rows, ORANGE if flagged else BLUE, flagged, sheet.row)
    _legend(sheet, marks, scale)
    return accessible(sheet.root, uid, title, description)


def _bounds(marks: Sequence[Mark], scale: Scale, log: bool) -> tuple[float, float]:
    values = [mark.value for mark in marks]
    values += [] if scale.neutral is None or log else [scale.neutral]
    values += [] if log else list(scale.limits)
    ends = [end for mark in marks for end in (mark.lower, mark.upper) if end is not None]
    if log:
        return math.log10(min(ends)), math.log10(max(ends))
    # A few hopelessly wide intervals must not squeeze everything else: they run out of the picture.
    span = (max(values) - min(values)) or max(abs(values[0]) / 2, 0.1)
    low = max(min([*values, *ends]), min(values) - 2 * span, scale.within[0])
    high = min(max([*values, *ends]), max(values) + 2 * span, scale.within[1])
    edge = 0.03 * (high - low or span)
    return low - edge, high + edge


def _axis(sheet: _Sheet, scale: Scale) -> None:
    if scale.band is not None:
        start, end = (sheet.x(value) for value in scale.band)
        sheet.add("rect", f"fill:{BAND}", x=start, y=_TOP, width=end - start, height=sheet.below - _TOP)
    for tick in _ticks(sheet):
        sheet.upright(tick, f"stroke:{GRID};stroke-width:0.6;fill:none")
        sheet.write(sheet.x(tick), sheet.below + 11, f"{tick:g}".replace("-", "−"), "middle")
    sheet.add(
        "path",
        f"stroke:{AXIS};stroke-width:0.8;fill:none",
        d=f"M{sheet.left:.2f} {sheet.below:.2f}H{_WIDTH - _RIGHT:.2f}",
    )
    for number, line in enumerate(scale.words):
        middle = (sheet.left + _WIDTH - _RIGHT) / 2
        sheet.write(middle, sheet.below + 22 + 10 * number, line, "middle")
    if scale.neutral is not None:
        sheet.upright(scale.neutral, f"stroke:{INK};stroke-width:0.8;fill:none")
    for limit in scale.limits:
        sheet.upright(limit, f"stroke:{INK};stroke-width:0.8;stroke-dasharray:3 2;fill:none")


def _ticks(sheet: _Sheet) -> list[float]:
    if sheet.log:
        powers = range(math.floor(sheet.low), math.ceil(sheet.high) + 1)
        return [10.0**power for power in powers if sheet.low <= power <= sheet.high]
    raw = (sheet.high - sheet.low) / 4
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(size * power for size in (1, 2, 5, 10) if size * power >= raw)
    first, last = math.ceil(sheet.low / step), math.floor(sheet.high / step)
    return [round(number * step, 12) + 0.0 for number in range(first, last + 1)]


def _rows(
    sheet: _Sheet, rows: Sequence[tuple[Mark, float]], colour: str, flagged: bool, height: float
) -> None:
    """Draw intervals as one path, points as another: two hundred rows stay light."""
    bars = "".join(
        f"M{sheet.x(mark.lower):.2f} {y:.2f}H{sheet.x(mark.upper):.2f}"
        for mark, y in rows
        if mark.lower is not None and mark.upper is not None
    )
    thick = "".join(
        f"M{sheet.x(mark.inner[0]):.2f} {y:.2f}H{sheet.x(mark.inner[1]):.2f}"
        for mark, y in rows
        if mark.inner is not None
    )
    size = min(3.2, max(0.8, height * 0.9))
    width = min(1.5, max(0.7, height * 0.4))
    if bars:
        faded = "" if flagged or height > 6 else ";stroke-opacity:0.55"
        sheet.add("path", f"stroke:{colour};stroke-width:{width:.2f};fill:none{faded}", d=bars)
    if thick:
        sheet.add(
            "path", f"stroke:{colour};stroke-width:{min(5.0, height * 0.5):.2f};stroke-opacity:0.5", d=thick
        )
    if rows and flagged:
        size = max(size, 2.6)
        points = (
            f"M{sheet.x(m.value):.2f} {y - size:.2f}l{size} {size}l{-size} {size}l{-size} {-size}z"
            for m, y in rows
        )
        sheet.add("path", f"fill:{colour};stroke:{PAPER};stroke-width:0.5", d="".join(points))
    elif rows:
        points = (
            f"M{sheet.x(m.value) - size:.2f} {y:.2f}a{size:.2f} {size:.2f} 0 1 0 {2 * size:.2f} 0"
            f"a{size:.2f} {size:.2f} 0 1 0 {-2 * size:.2f} 0z"
            for m, y in rows
        )
        fill = PAPER if height > 6 else colour
        sheet.add("path", f"fill:{fill};stroke:{colour};stroke-width:1", d="".join(points))


def _names(sheet: _Sheet, flagged: Sequence[tuple[Mark, float]]) -> None:
    """Name the flagged rows of a caterpillar, each label as near to its row as the others let it."""
    shown = list(flagged)[:MOST_NAMED]
    places: list[float] = []
    for _, y in shown:
        places.append(max(y, places[-1] + _LINE if places else _TOP + _LINE / 2))
    lowest = sheet.below - _LINE / 2
    for place in reversed(range(len(places))):
        places[place] = min(places[place], lowest)
        lowest = places[place] - _LINE
    for (mark, y), at in zip(shown, places, strict=True):
        sheet.write(sheet.left - 12, at + 2.8, _label(mark), "end")
        sheet.add(
            "path",
            f"stroke:{FAINT};stroke-width:0.6;fill:none",
            d=f"M{sheet.left - 10:.2f} {at:.2f}L{sheet.left - 2:.2f} {y:.2f}",
        )


def _legend(sheet: _Sheet, marks: Sequence[Mark], scale: Scale) -> None:
    x, y = sheet.left + 4, 7.0
    for flagged, words in ((True, "▲ flagged"), (False, "not flagged")):
        if any(mark.flagged is flagged for mark in marks):
            one = Mark("", 0.0, None, None, flagged)
            own = _Spot(sheet, x)
            _rows(own, [(one, y)], ORANGE if flagged else BLUE, flagged, _ROW)
            sheet.write(x + 7, y + 2.8, words)
            x += 14 + _LETTER * len(words)
    if scale.limits:
        sheet.add(
            "path",
            f"stroke:{INK};stroke-width:0.8;stroke-dasharray:3 2;fill:none",
            d=f"M{x:.2f} {y - 5:.2f}V{y + 5:.2f}",
        )
        sheet.write(x + 5, y + 2.8, "threshold")


class _Spot(_Sheet):
    """A sheet whose every value lies in one place: for the legend's marks."""

    def __init__(self, sheet: _Sheet, x: float) -> None:
        self.root = sheet.root
        self._at = x

    def x(self, value: float) -> float:
        return self._at + 0 * value


def _label(mark: Mark) -> str:
    return ("▲ " if mark.flagged else "") + mark.label
