"""The commands that train: finetune and soup."""

from __future__ import annotations

import argparse
import dataclasses

from .key_values import settings
from .progress import PrintedProgress
from .run_commands import source_of


def finetune(options: argparse.Namespace) -> None:
    """Fine-tune an encoder."""
    from ..data.labels import is_generic
    from ..data.metrics import METRICS
    from ..plugins import build
    from ..training import finetune

    source = source_of(options)
    validation = dataclasses.replace(source, task=options.validation)
    recipe = build(
        {"finetune": finetune.TrainingRecipe},
        "finetune",
        {"adversarial": options.adversarial, **settings(options.set)},
    )
    progress = PrintedProgress()
    card = finetune.finetune(recipe, source, validation, folder=options.out, report=progress)
    progress.end()
    print(
        f"Best validation {METRICS[card['metric']].title}: {card['score']:.4f}; saved to {options.out}"
    )
    if (names := card.get("labels", [])) and is_generic(names):  # of numbers; a score's head is not
        print(
            f"Its labels are {', '.join(names)}; to train one whose labels have names: --labels 0=NAME,1=NAME,…"
        )


def soup(options: argparse.Namespace) -> None:
    """Average fine-tunes, made first where recipes are given."""
    from ..analysis.takeaways import soup as takeaway
    from ..plugins import build, subrange
    from ..training import model_soup
    from .terminal import soup_table

    plan = build(
        {"soup": model_soup.SoupPlan}, "soup", {"way": options.way, **settings(options.set)}
    )
    source = source_of(options)
    validation = dataclasses.replace(source, task=options.validation)
    progress = PrintedProgress()
    candidates, begun = (
        [model_soup.Candidate.of(checkpoint) for checkpoint in options.checkpoint],
        0.0,
    )
    if options.recipes:
        recipes, begun = (
            model_soup.read_recipes(options.recipes, settings(options.each), options.epochs_share),
            0.7,
        )
        candidates += model_soup.fine_tune_candidates(
            recipes,
            source,
            validation,
            folder=options.out / "candidates",
            report=subrange(progress, 0.0, begun),
        )
    record = model_soup.make_soup(
        plan, candidates, validation, folder=options.out, report=subrange(progress, begun, 1.0)
    )
    progress.end()
    print(soup_table(record))
    print(f"{takeaway(record)}\n{' + '.join(record['ingredients'])}: {options.out / plan.way}")
