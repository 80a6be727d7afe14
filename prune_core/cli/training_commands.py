"""Commands that train: finetune and soup."""

import argparse
import dataclasses

from .key_values import settings
from .progress import PrintedProgress
from .run_commands import source_from_options


def finetune(options: argparse.Namespace) -> None:
    """Fine-tune an encoder."""
    from ..data.labels import is_generic
    from ..plugins import build
    from ..tasks import METRICS
    from ..training import finetune

    source = source_from_options(options)
    validation = dataclasses.replace(source, task=options.validation)
    flags = {"adversarial": options.adversarial, "mask_words": options.mask_words}
    recipe = build(
        {"finetune": finetune.TrainingRecipe}, "finetune", {**flags, **settings(options.set)}
    )
    progress = PrintedProgress()
    card = finetune.finetune(recipe, source, validation, folder=options.out, report=progress)
    progress.end()
    print(
        f"Best validation {METRICS[card['metric']].title}: {card['score']:.4f}; "
        f"saved to {options.out}"
    )
    names = card.get("labels", [])
    if names and is_generic(names):  # a regression head has no label names
        print(
            f"The labels of the model are {', '.join(names)}; to name them, train with "
            "--labels 0=NAME,1=NAME,…"
        )


def soup(options: argparse.Namespace) -> None:
    """Average fine-tuned checkpoints, trained first if recipes are given."""
    from ..analysis.takeaways import soup as takeaway
    from ..plugins import build, subrange
    from ..training import model_soup
    from .terminal import soup_table

    plan = build(
        {"soup": model_soup.SoupPlan}, "soup", {"way": options.way, **settings(options.set)}
    )
    source = source_from_options(options)
    validation = dataclasses.replace(source, task=options.validation)
    progress = PrintedProgress()
    candidates = [model_soup.Candidate.of(checkpoint) for checkpoint in options.checkpoint]
    start = 0.7 if options.recipes else 0.0
    if options.recipes:
        overrides = settings(options.each)
        recipes = model_soup.read_recipes(options.recipes, overrides, options.epochs_share)
        candidates += model_soup.fine_tune_candidates(
            recipes,
            source,
            validation,
            folder=options.out / "candidates",
            report=subrange(progress, 0.0, start),
        )
    record = model_soup.make_soup(
        plan, candidates, validation, folder=options.out, report=subrange(progress, start, 1.0)
    )
    progress.end()
    print(soup_table(record))
    print(f"{takeaway(record)}\n{' + '.join(record['ingredients'])}: {options.out / plan.way}")
