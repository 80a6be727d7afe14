"""Color and marker of each model: hue by method, lightness and marker by sparsity.

Charts, chips and tables all take their colors from here.
"""

import zlib

from ..analysis.compared_models import DENSE, ComparedModel

# Okabe and Ito's color-blind-safe hues and a violet, fixed per method: a method looks the same on
# every page
HUES = {
    "magnitude": "#E69F00",
    "wanda": "#CC79A7",
    "sparsegpt": "#0072B2",
    "akr": "#009E73",
    "akr_plus": "#7F6BB3",
    "kwon": "#56B4E9",
    "kprune": "#D55E00",
    "ria": "#B2A200",
    "dsnot": "#8C6D4F",
    "alps": "#A3333D",
    "kprune_plus": "#B0479B",
    "ziplm": "#4C9A8A",
    "osscar": "#7A8F2D",
    "block_drop": "#8A8D99",
    "candidate": "#C44E52",
}
SPARE_HUES = ("#5D8AA8", "#B5739D")  # for methods without an entry, chosen by name
DIVERGING = [
    "#0072B2",
    "#74B3D8",
    "#F4F4F2",
    "#F0B96B",
    "#D06A00",
]  # blue, white, orange: differences
DIVERGING_DARK = ["#56B4E9", "#2C6E98", "#262A31", "#A5701F", "#F0A840"]
SEQUENTIAL = "Viridis"  # errors, on every page
LIGHTNESS = ((0.8, 0.0), (0.6, 0.15), (0.0, 0.5))  # (lowest sparsity, fraction of white)
PAPER = {False: "#ffffff", True: "#0f1318"}
INK = {False: "#1c2127", True: "#e9ecf0"}
MUTED = {False: "#66707c", True: "#97a1ad"}
GRID = {False: "rgba(28,33,39,0.09)", True: "rgba(233,236,240,0.10)"}
AXIS = {False: "rgba(28,33,39,0.35)", True: "rgba(233,236,240,0.35)"}


def symbol(model: ComparedModel) -> str:
    """Return the marker by pattern or sparsity; hollow: structured, dotted: other checkpoint."""
    bounds = ((0.45, "triangle-up"), (0.6, "circle"), (0.8, "diamond"), (1.01, "square"))
    shape = "circle"
    if model.pattern:
        shape = "star"
    elif not model.is_dense:
        shape = next(shape for limit, shape in bounds if model.sparsity < limit)
    if model.structured:
        shape += "-open"
    return f"{shape}-dot" if model.start else shape


def color(model: ComparedModel, dark: bool = False) -> str:
    """Return a model's fill or line color: its method's hue, lighter at low sparsity."""
    if model.is_dense:
        return INK[dark]
    hue = hue_of(model.method)
    step = next(step for low, step in LIGHTNESS if model.sparsity >= low)
    if dark:
        return mix(hue, "#ffffff", 0.12 + 0.66 * step)
    return mix(hue, "#ffffff", 0.9 * step) if step else mix(hue, "#000000", 0.3)


def ink(model: ComparedModel, dark: bool = False) -> str:
    """Return a model's text color: the same hue with enough contrast."""
    if model.is_dense:
        return INK[dark]
    hue = hue_of(model.method)
    return mix(hue, "#ffffff", 0.35) if dark else mix(hue, "#000000", 0.28)


def hue_of(method: str) -> str:
    """Return the method's hue; a method without one always gets the same spare hue."""
    return HUES.get(method) or SPARE_HUES[zlib.crc32(method.encode()) % len(SPARE_HUES)]


def method_color(method: str, dark: bool = False) -> str:
    """Return the color of a method for charts with sparsity on an axis."""
    if method == DENSE:
        return INK[dark]
    return mix(hue_of(method), "#ffffff", 0.15) if dark else hue_of(method)


def mix(color: str, other: str, fraction: float) -> str:
    """Mix two colors with `fraction` of the second."""
    first, second = (tuple(int(code[i : i + 2], 16) for i in (1, 3, 5)) for code in (color, other))
    return "#" + "".join(
        f"{round(start + (end - start) * fraction):02x}"
        for start, end in zip(first, second, strict=True)
    )


def fade(color: str, opacity: float) -> str:
    """Return the color with an opacity."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def readable_on(color: str) -> str:
    """Return near-black or white, whichever has more contrast with the color."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    luminance = 0.299 * red + 0.587 * green + 0.114 * blue
    return INK[False] if luminance > 150 else "#ffffff"
