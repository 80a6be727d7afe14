"""Arguments of the commands that train: `finetune` and `soup`."""

from pathlib import Path
from typing import Any

from . import training_commands
from .experiment_arguments import SOURCE, add_command, argument, repeatable


def add_finetune(commands: Any) -> None:
    """Add the command `finetune`."""
    add_command(
        commands,
        "finetune",
        training_commands.finetune,
        *SOURCE,
        argument("--validation", required=True, help="file or known task to select the best epoch"),
        argument("--out", required=True, type=Path, help="folder for the checkpoint"),
        argument(
            "--adversarial",
            default="none",
            help="none, or freelb: adversarial training on the word embeddings (none)",
        ),
        argument(
            "--mask-words",
            type=float,
            default=0.0,
            metavar="FRACTION",
            help="fraction of the words of each training text that is masked, drawn anew in every "
            "epoch; 0.7 to 0.9 for the measure certified (0)",
        ),
        # names only: importing the recipe here would make every command import torch
        repeatable(
            "--set",
            "OPTION=VALUE",
            "option of the recipe; repeatable: checkpoint epochs learning_rate batch_size examples "
            "max_length warmup optimizer weight_decay dropout adversarial_steps "
            "adversarial_step_size adversarial_norm removal average checks patience "
            "mixed_precision half seed device",
        ),
        help="fine-tune an encoder for a task",
    )


def add_soup(commands: Any) -> None:
    """Add the command `soup`."""
    add_command(
        commands,
        "soup",
        training_commands.soup,
        *SOURCE,
        argument(
            "--validation",
            required=True,
            help="file or known task to measure accuracy and attacks on",
        ),
        repeatable("--checkpoint", "FOLDER", "a fine-tuned checkpoint; repeatable"),
        argument(
            "--recipes",
            type=Path,
            metavar="FILE",
            help="YAML list of fine-tuning options; these checkpoints are trained first",
        ),
        repeatable("--each", "OPTION=VALUE", "option of every recipe; repeatable"),
        argument(
            "--epochs-share",
            type=float,
            default=1.0,
            metavar="FRACTION",
            help="fraction of every recipe's epochs to train, at least one epoch (1)",
        ),
        argument(
            "--way",
            default="greedy-attack",
            help="selection: greedy-attack, greedy-accuracy or uniform (greedy-attack)",
        ),
        argument(
            "--out",
            required=True,
            type=Path,
            help="folder for the averaged model, its record and the results",
        ),
        repeatable(
            "--set",
            "OPTION=VALUE",
            "option of the soup; repeatable: attack attack_examples examples allowed_loss "
            "query_budget time_budget max_changed precision max_length seed device",
        ),
        help="average fine-tunes of one encoder (model soup) for robustness against attacks",
    )
