"""Verify and time the GPU path: each section runs in its own process with a time limit.

    python -m benchmarks.gpu --out FOLDER [--device cuda] [--tiny] [--only NAME …]

FOLDER/gpu.json (all metrics) and FOLDER/gpu.md (the tables) are rewritten after every section, so
that an interrupted run leaves its results, and a section that fails, hangs or corrupts the device
context leaves its rows so far. Needs only torch, transformers, numpy and pandas; environment.sh
creates such an environment. Exit status 1 if a check fails.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from datetime import date
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from .report import markdown

SECTIONS = ("correctness", "pruning_time", "scaling", "latency", "attack_queries")
PACKAGES = (
    "torch",
    "transformers",
    "numpy",
    "pandas",
    "scipy",
    "scikit-learn",
    "textattack",
    "triton",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for gpu.json and gpu.md")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="small shapes, to test the benchmark")
    parser.add_argument(
        "--patience",
        type=float,
        default=1.0,
        help="factor for the time limits of sections, on a busy or slow machine",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SECTIONS,
        default=SECTIONS,
        metavar="NAME",
        help=", ".join(SECTIONS),
    )
    parser.add_argument(
        "--section", choices=SECTIONS, help=argparse.SUPPRESS
    )  # used in the child process
    options = parser.parse_args()
    if options.section:
        return _measure(options)
    options.out.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = {
        "environment": _environment(options.device),
        "tiny": options.tiny,
        "sections": {},
    }
    for name in options.only:
        print(f"{name} …", flush=True)
        results["sections"][name] = section = _run_section(name, options)
        (options.out / "gpu.json").write_text(json.dumps(results, indent=1))
        (options.out / "gpu.md").write_text(markdown(results))
        print(
            f"{name}: {section['status']} ({section['seconds']:.0f} s, {len(section['rows'])} "
            "rows)",
            flush=True,
        )
    print((options.out / "gpu.md").read_text())
    sections = results["sections"].values()
    return int(
        any(
            section["status"] != "Done"
            or any(row.get("passes") is False for row in section["rows"])
            for section in sections
        )
    )


def _run_section(name: str, options: argparse.Namespace) -> dict[str, Any]:
    """Run a section in its own process; return its rows so far and its status."""
    limit = import_module(f"benchmarks.gpu.{name}").LIMIT * options.patience
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-m",
            "benchmarks.gpu",
            "--section",
            name,
            "--out",
            folder,
            "--device",
            options.device,
        ]
        with (Path(folder) / "log").open("w+") as log:
            try:
                status_code = subprocess.run(
                    [*command, *(["--tiny"] if options.tiny else [])],
                    stdout=log,
                    stderr=log,
                    timeout=limit,
                ).returncode
                log.seek(0)
                lines = [line.strip() for line in log.read().splitlines() if line.strip()]
                status = (
                    "Done"
                    if status_code == 0
                    else f"Failed: {lines[-1] if lines else f'status {status_code}'}"
                )
            except subprocess.TimeoutExpired:
                status = f"Stopped after its {limit:.0f} s, with what it had"
        rows_file = Path(folder) / "rows"
        rows = (
            [json.loads(line) for line in rows_file.read_text().splitlines()]
            if rows_file.is_file()
            else []
        )
    return {"status": status, "seconds": time.monotonic() - started, "rows": rows}


def _measure(options: argparse.Namespace) -> int:
    """Run a section in this process and write each row immediately."""
    from prune_core import PruneError
    from prune_core.models.devices import pick_device

    from .device_setup import DeviceSetup

    try:
        setup = DeviceSetup(pick_device(options.device), options.tiny)
    except PruneError as error:
        print(error)
        return 1
    with (options.out / "rows").open("w", buffering=1) as rows:
        for row in import_module(f"benchmarks.gpu.{options.section}").run(setup):
            rows.write(json.dumps(row) + "\n")
    return 0


def _environment(device: str) -> dict[str, Any]:
    import torch

    from prune_core import PruneError
    from prune_core.models.devices import device_title, pick_device
    from prune_core.versions import versions

    try:
        title = device_title(pick_device(device))
    except PruneError as error:
        raise SystemExit(f"benchmarks.gpu: {error}") from None
    package_versions = {"python": versions()["python"]} | {
        name: _version(name) for name in PACKAGES if _version(name)
    }
    if torch.version.cuda:
        package_versions["CUDA"] = torch.version.cuda
    if driver := _driver():
        package_versions["driver"] = driver
    return {
        "device": title,
        "date": date.today().isoformat(),
        "commit": versions()["commit"],
        "versions": package_versions,
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _driver() -> str:
    """Return the version of the NVIDIA driver, or an empty string without nvidia-smi."""
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.splitlines()[0]
    except (OSError, subprocess.SubprocessError, IndexError):
        return ""


if __name__ == "__main__":
    raise SystemExit(main())
