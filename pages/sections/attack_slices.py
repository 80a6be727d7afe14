"""Attack success by length of the text, by label and by confidence of the dense model."""

from __future__ import annotations

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import attack_success

RATES = {"success_rate": "Attack success", "under_attack": "Accuracy under attack"}


def show(view: View, recipe: str) -> None:
    """Small multiples, one panel per type of slice."""
    own = view.single("attack_example").query("recipe == @recipe")
    rate = ui.segments("rate", RATES, "success_rate", label="Show")
    dense = ui.dense_of(view.models, own)
    runs = attack_success.slices(own, dense.jobs if dense else (), view.label_names)
    order = list(dict.fromkeys(runs["slice"]))
    found = view.pooled("attack_slice", runs)
    place = lambda each: each.map(order.index)  # noqa: E731
    found = found.sort_values("slice", key=place, kind="stable", ignore_index=True)
    mean = view.means()
    interval = f"intervals over seeds and examples, {mean}" if mean else "Wilson intervals"
    ui.chart(
        "On which sentences are the models easier to fool?",
        f"{RATES[rate]} by {recipe} with 95% {interval}. n under each slice is its number of "
        f"examples{' per seed' if mean else ''}, the smallest and the largest of any model.",
        plots.slices(found, view.models, rate, dark=view.dark),
        key="slices",
    )
    ui.downloads(found.assign(run=found["job"].map(view.labels)), "attack-slices")
    ui.how_to_read(
        "Short, middle and long are thirds of the sentences by their number of words. Confidence "
        "is the probability that the **dense** model gives its answer on the original sentence, "
        "the same thirds for every model. Sentences alike stay together, so thirds can differ in "
        "size. A slice has few sentences: look whether intervals part before you believe a "
        "difference, and remember that among many slices one stands out by chance."
        + (
            ""
            if dense
            else " Thirds by confidence appear when the dense model has been attacked and is on "
            "view."
        )
    )
