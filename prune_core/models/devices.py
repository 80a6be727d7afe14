"""Devices, matrix precision, random seeds and memory."""

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
    """Device of a model's parameters."""
    return next(model.parameters()).device


def device_type(name: str) -> str:
    """Type of a device, cpu, cuda or mps, that this machine need not have; 'auto' is resolved."""
    return _best_device() if name == "auto" else name.partition(":")[0]


def pick_device(name: str) -> torch.device:
    """Resolve a device name; 'auto' prefers CUDA, then MPS, then CPU.

    PruneError if the device is not available: there is no silent fallback to the CPU.
    """
    if name == "auto":
        name = _best_device()
    if name == "cuda" and torch.cuda.device_count():
        name = f"cuda:{torch.cuda.current_device()}"  # of several, the one set for this worker
    try:
        device = torch.device(name)
    except RuntimeError:
        raise PruneError(
            f"There is no device {name!r}; use auto, cpu, cuda, cuda:1 or mps."
        ) from None
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise PruneError(
            f"Device {name!r} is not available on this machine "
            f"({torch.cuda.device_count()} CUDA devices); use auto or cpu."
        )
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise PruneError("Device 'mps' is not available on this machine; use auto or cpu.")
    return device


def _best_device() -> str:
    """The fastest type of device of this machine."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def device_title(device: torch.device) -> str:
    """Product name of a GPU, or architecture and threads of a CPU, for the record of a run."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "cpu":
        return f"{platform.machine()} CPU, {plural(torch.get_num_threads(), 'thread')}"
    return device.type


@contextmanager
def matrix_precision(tf32: bool) -> Iterator[None]:
    """Allow or forbid TF32 in fp32 matrix products on CUDA; the previous setting is restored.

    TF32 has 10 bits of mantissa instead of 23.
    """
    previous = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(previous)


@contextmanager
def evaluation_mode(*models: nn.Module) -> Iterator[None]:
    """Switch models to eval mode (no dropout); each module's previous mode is restored."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    for model in models:
        model.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's global generators; nothing else reseeds them."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def release_memory() -> None:
    """Return memory freed by the C library to the system, if it supports this (glibc)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def free_memory() -> int:
    """Available memory in bytes; total memory if psutil is not installed."""
    try:
        import psutil
    except ImportError:  # a bare GPU machine
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return int(psutil.virtual_memory().available)
