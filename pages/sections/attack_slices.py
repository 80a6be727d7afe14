"""Attack success by length of the text, by label and by confidence of the dense model."""

from pages.widgets import ui
from pages.widgets.frame import View
from prune_core import plots
from prune_core.analysis import attack_success

RATES = {"success_rate": "Attack success", "under_attack": "Accuracy under attack"}


def show(view: View, recipe: str) -> None:
    """Draw one panel per type of slice."""
    examples = view.single("attack_example").query("recipe == @recipe")
    rate = ui.segments("rate", RATES, "success_rate", label="Show")
    dense = ui.dense_of(view.models, examples)
    runs = attack_success.slices(examples, dense.jobs if dense else (), view.label_names)
    order = list(dict.fromkeys(runs["slice"]))
    slices = view.pooled("attack_slice", runs).sort_values(
        "slice", key=lambda names: names.map(order.index), kind="stable", ignore_index=True
    )
    mean = view.means()
    interval = f"intervals over seeds and examples, {mean}" if mean else "Wilson intervals"
    ui.chart(
        "On which examples do attacks succeed more often?",
        f"{RATES[rate]} by {recipe} with 95% {interval}. n under each slice is its number of "
        f"examples{' per seed' if mean else ''}, the smallest and the largest of all models.",
        plots.slices(slices, view.models, rate, dark=view.dark),
        key="slices",
    )
    ui.downloads(slices.assign(run=slices["job"].map(view.labels)), "attack-slices")
    text = (
        "Short, middle and long are thirds of the examples by number of words. Confidence is the "
        "probability of the **dense** model's prediction for the original text, with the same "
        "thirds for every model. Examples with equal values stay together, so thirds can differ "
        "in size. A slice has few examples: check that the intervals do not overlap before you "
        "trust a difference, and remember that among many slices one stands out by chance."
    )
    if not dense:
        text += " Slices by confidence need attacks on the dense model: select it in the sidebar."
    ui.how_to_read(text)
