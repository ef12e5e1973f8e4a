"""Makes drawings into accessible SVG for inline use: the same bytes every time, and nothing to load.

Text stays text, so that it can be searched, selected and printed in the reader's own fonts; it is measured in
DejaVu Sans, which is wider than most, so that a fallback font does not overflow. Every colour is a name that
the page defines twice, for light and for dark.
"""

import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from xml.etree import ElementTree

from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Sheet

WIDTH_IN = 5.0
"""Narrow enough that 9-point text is still readable when a telephone shrinks it."""

NAMESPACE = "http://www.w3.org/2000/svg"
INK, AXIS, GRID, FAINT = "#222222", "#444444", "#dddddd", "#949494"
BLUE, ORANGE, GREEN, PINK, OLIVE, GREY = "#0072b2", "#c65300", "#007a58", "#b8568c", "#8a6d00", "#767676"
PAPER, BAND = "#ffffff", "#eeeeee"
PALETTE: Mapping[str, tuple[str, str, str]] = {
    "ink": (INK, INK, "#ececea"),
    "axis": (AXIS, AXIS, "#c3c7cd"),
    "grid": (GRID, GRID, "#3a3f48"),
    "faint": (FAINT, FAINT, "#7a808a"),
    "blue": (BLUE, BLUE, "#6cbcf0"),
    "orange": (ORANGE, ORANGE, "#ff9d57"),
    "green": (GREEN, GREEN, "#4fd0a5"),
    "pink": (PINK, PINK, "#ea9cc6"),
    "olive": (OLIVE, OLIVE, "#d9bd55"),
    "grey": (GREY, GREY, "#a2a7b0"),
    "paper": (PAPER, PAPER, "#1c1f25"),
    "band": (BAND, BAND, "#2b2f37"),
}
"""By name: how a drawing writes it, and what the page makes of it in a light and in a dark scheme.

After Okabe and Ito (2008), whom colour-blind readers can tell apart, darkened to stand out by 3 to 1.
"""

_XLINK = "{http://www.w3.org/1999/xlink}href"
_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "rlhf_audit",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": AXIS,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": AXIS,
    "ytick.color": AXIS,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "path.simplify": False,
    "text.parse_math": False,
}
_NAMED = {drawn: f"var(--f-{name})" for name, (drawn, _, _) in PALETTE.items()} | {"#000000": "var(--f-ink)"}

ElementTree.register_namespace("", NAMESPACE)


@dataclass(frozen=True)
class Figure:
    """A figure, or a sentence that says why there is none.

    Attributes:
        svg: None where the data are missing.
        caption: What it shows, and what it leaves out.
    """

    svg: str | None
    caption: str


def draw(uid: str, title: str, description: str, height_in: float, paint: Callable[[Axes], None]) -> str:
    """Return what ``paint`` draws, as an SVG element.

    Args:
        uid: Unique on the page; every id in the SVG begins with it.
        title: The figure's name for a screen reader.
        description: What there is to see, in words.
        height_in: Inches; the width is ``WIDTH_IN``.
        paint: Draws on the axes it is given.

    Determinism:
        matplotlib's settings are its own defaults, whatever the user's are; ids are numbered in order.
    """
    buffer = io.StringIO()
    with style.context(["default", _STYLE]):
        sheet = Sheet(figsize=(WIDTH_IN, height_in), layout="constrained")
        FigureCanvasSVG(sheet)
        paint(sheet.add_subplot())
        sheet.savefig(buffer, format="svg", metadata=_METADATA)
    root = ElementTree.fromstring(buffer.getvalue())
    _drop(root, "metadata", "style")
    _renumber(root, uid)
    for name in ("width", "height", "version"):
        root.attrib.pop(name, None)
    root.attrib |= {"stroke-linejoin": "round", "stroke-linecap": "butt"}
    return accessible(root, uid, title, description)


def accessible(root: ElementTree.Element, uid: str, title: str, description: str) -> str:
    """Return an SVG with a name and a description for a screen reader, and the page's colours."""
    root.attrib |= {"role": "img", "aria-labelledby": f"{uid}-title {uid}-text"}
    for place, (tag, suffix, text) in enumerate((("title", "title", title), ("desc", "text", description))):
        element = ElementTree.Element(f"{{{NAMESPACE}}}{tag}", {"id": f"{uid}-{suffix}"})
        element.text = re.sub(r"[^\n -~\u00a0-\u2027\u2030-\u205f\u2070-\ud7ff]", "\ufffd", text)
        root.insert(place, element)
    for element in root.iter():
        if "style" in element.attrib:
            element.attrib["style"] = re.sub(
                "#[0-9a-f]{6}", lambda match: _NAMED.get(match[0], match[0]), element.attrib["style"]
            )
    return ElementTree.tostring(root, encoding="unicode")


def plain(text: str, length: int = 26) -> str:
    r"""Return a label that any font has: printable ASCII and a few signs, else ``?``; cut to ``length``.

    >>> plain("r-7f3a"), plain("a\x1b[1m\u202eb"), plain("x" * 9, 5)
    ('r-7f3a', 'a?[1m?b', 'xxxx…')
    """
    known = re.sub(r"[^ -~·…–▲]", "?", text)
    return known if len(known) <= length else known[: length - 1] + "…"


def _drop(root: ElementTree.Element, *tags: str) -> None:
    unwanted = {f"{{{NAMESPACE}}}{tag}" for tag in tags}
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in unwanted:
                parent.remove(child)


def _renumber(root: ElementTree.Element, uid: str) -> None:
    """Name the ids that something refers to after ``uid``, in order; drop the others."""
    used: dict[str, str] = {}
    for element in root.iter():
        if _XLINK in element.attrib:
            element.attrib["href"] = element.attrib.pop(_XLINK)
        for value in element.attrib.values():
            for name in re.findall(r"(?:url\(|^)#([^)]+)", value):
                used.setdefault(name, f"{uid}-{len(used) + 1}")
    for element in root.iter():
        name = element.attrib.pop("id", None)
        if name in used:
            element.attrib["id"] = used[name]
        for key, value in element.attrib.items():
            if "#" in value and key not in ("id", "style"):
                element.attrib[key] = re.sub(
                    r"(url\(|^)#([^)]+)", lambda match: f"{match[1]}#{used[match[2]]}", value
                )
