"""One look per model: its hue says the method, lightness and marker say the sparsity. Dense is near-black, or near-white.

Knows nothing of rows, plotly or Streamlit; charts, chips and tables all take their colours from here.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass

DENSE = "dense"
# Okabe and Ito's colour-blind-safe hues and a violet, fixed per method so that a method looks the same on every page.
HUES = {
    "magnitude": "#E69F00", "wanda": "#CC79A7", "sparsegpt": "#0072B2", "akr": "#009E73", "akr_plus": "#7F6BB3", "kwon": "#56B4E9",
    "kprune": "#D55E00",
}  # fmt: skip
SPARE_HUES = ("#B2A200", "#8C6D4F")  # for a method added later, chosen by its name
ORDER = [DENSE, *HUES]
DIVERGING = ["#0072B2", "#74B3D8", "#F4F4F2", "#F0B96B", "#D06A00"]  # blue, white, orange: differences
DIVERGING_DARK = ["#56B4E9", "#2C6E98", "#262A31", "#A5701F", "#F0A840"]
SEQUENTIAL = "Viridis"  # errors, on every page
PAPER = {False: "#ffffff", True: "#0f1318"}
INK = {False: "#1c2127", True: "#e9ecf0"}
MUTED = {False: "#66707c", True: "#97a1ad"}
GRID = {False: "rgba(28,33,39,0.09)", True: "rgba(233,236,240,0.10)"}
AXIS = {False: "rgba(28,33,39,0.35)", True: "rgba(233,236,240,0.35)"}


@dataclass(frozen=True)
class Model:
    """A run as charts see it: which rows are its own, what it is called, how it was pruned."""

    job: int
    label: str
    method: str = DENSE
    sparsity: float = 0.0
    pattern: str = ""
    seed: int = 0
    structured: bool = False  # whole heads and neurons went, and sparsity is a share of FLOPs
    form: str = ""  # where a method was run with different options: what this run changes of the full form

    @property
    def is_dense(self) -> bool:
        """True for the baseline."""
        return self.method == DENSE

    @property
    def family(self) -> str:
        """The method's own title, which its label begins with: AKR, SparseGPT."""
        return self.label.split(" · ")[0].removesuffix(self.level).strip(" −") or self.method

    @property
    def short(self) -> str:
        """The label where a chart has little room; the minus sign still says that FLOPs went, not weights."""
        return self.label.replace(" FLOPs", "")

    @property
    def level(self) -> str:
        """What was asked for: 70%, 2:4, or 70% FLOPs."""
        return self.pattern or f"{self.sparsity:.1%}".replace(".0%", "%") + " FLOPs" * self.structured

    @property
    def symbol(self) -> str:
        """Marker shape: by pattern, else by sparsity; hollow for structured pruning."""
        if self.is_dense:
            return "circle"
        if self.pattern:
            return "star"
        bounds = ((0.45, "triangle-up"), (0.6, "circle"), (0.8, "diamond"), (1.01, "square"))
        return next(shape for limit, shape in bounds if self.sparsity < limit) + "-open" * self.structured

    def color(self, dark: bool = False) -> str:
        """The fill or line colour: the method's hue, lighter at low sparsity."""
        if self.is_dense:
            return INK[dark]
        hue, step = hue_of(self.method), (0.0 if self.sparsity >= 0.8 else 0.5 if self.sparsity < 0.6 else 0.15)
        if dark:
            return mix(hue, "#ffffff", 0.12 + 0.66 * step)
        return mix(hue, "#ffffff", 0.9 * step) if step else mix(hue, "#000000", 0.3)

    def ink(self, dark: bool = False) -> str:
        """The same hue, dark (or light) enough to read as text."""
        if self.is_dense:
            return INK[dark]
        return mix(hue_of(self.method), "#ffffff", 0.35) if dark else mix(hue_of(self.method), "#000000", 0.28)


def hue_of(method: str) -> str:
    """The method's hue; a method without one gets a spare, always the same."""
    return HUES.get(method) or SPARE_HUES[zlib.crc32(method.encode()) % len(SPARE_HUES)]


def method_color(method: str, dark: bool = False) -> str:
    """A whole method's colour, where sparsity is on an axis."""
    if method == DENSE:
        return INK[dark]
    return mix(hue_of(method), "#ffffff", 0.15) if dark else hue_of(method)


def ordered(models: Iterable[Model]) -> list[Model]:
    """Dense first, then by method, sparsity, pattern, seed: the same order on every page."""
    rank = {name: place for place, name in enumerate(ORDER)}
    return sorted(models, key=lambda m: (rank.get(m.method, len(rank)), m.method, m.pattern != "", m.sparsity, m.pattern, m.seed, m.job))


def mix(color: str, other: str, share: float) -> str:
    """`share` of the other colour in the first."""
    first, second = (tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in (color, other))
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(first, second, strict=True))


def fade(color: str, opacity: float) -> str:
    """The colour, see-through."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def readable_on(color: str) -> str:
    """Near-black or white, whichever reads better on the colour."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return INK[False] if 0.299 * red + 0.587 * green + 0.114 * blue > 150 else "#ffffff"
