"""Where models live and in which precision they multiply; the seeds of everything random."""

from __future__ import annotations

import ctypes
import os
import platform
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn

from ..errors import PruneError
from ..formatting import plural


def device_of(model: nn.Module) -> torch.device:
    """Where the model lives."""
    return next(model.parameters()).device


def pick_device(name: str) -> torch.device:
    """'auto' is CUDA, then MPS, then CPU; a device that is not there is an error, never a silent CPU."""
    if name == "auto":
        name = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    if name == "cuda" and torch.cuda.device_count():
        name = f"cuda:{torch.cuda.current_device()}"  # a worker's own where there are several
    try:
        device = torch.device(name)
    except RuntimeError:
        raise PruneError(
            f"There is no device {name!r}; use auto, cpu, cuda, cuda:1 or mps."
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PruneError(
            f"Device {name!r} is not on this machine ({torch.cuda.device_count()} CUDA devices); use auto or cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise PruneError("Device 'mps' is not on this machine; use auto or cpu.")
    return device


def device_title(device: torch.device) -> str:
    """What the device is called by its maker, for the record."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)

    return (
        f"{platform.machine()} CPU, {plural(torch.get_num_threads(), 'thread')}"
        if device.type == "cpu"
        else device.type
    )


@contextmanager
def matrix_precision(tf32: bool) -> Iterator[None]:
    """Whether CUDA's fp32 matrix products may use TF32, stated and not left to torch's default."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def evaluation_mode(*models: nn.Module) -> Iterator[None]:
    """Without dropout; every module gets the mode back that it had."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def seed_everything(seed: int) -> None:
    """Python's, numpy's and torch's generators; nothing else in the package reseeds globally."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def release_memory() -> None:
    """Freed memory that the C library keeps between small blocks goes back to the system, where the library can do that (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def free_memory() -> int:
    """Bytes of this machine's memory that are free; all of it where psutil is not there to tell."""
    try:
        import psutil
    except ImportError:  # a bare GPU machine
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(psutil.virtual_memory().available)
