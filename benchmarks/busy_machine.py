"""Pruning time on a busy machine, by spin count of OpenMP threads at barriers.

    python -m benchmarks.busy_machine [--spins 300000 10000 1000 0] [--busy 0 1 2]

AKR at 70% on the demo, in a new process per line, with torch's default number of threads. The
default of libgomp is 300,000. With k busy processes on c cores, the fair time is the idle time
multiplied by (c + k) / c. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

LOAD = "while True: pass"


def main() -> None:
    """Print one line per number of busy processes and spin count."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spins", nargs="+", default=["300000", "10000", "1000", "0"])
    parser.add_argument("--busy", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--prune", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.prune:
        return print(_seconds(options.repeats))
    cores = os.cpu_count() or 1
    print(f"{'busy processes':>15}{'spins':>9}{'seconds':>9}{'of fair time':>14}")
    idle: dict[str, float] = {}
    for busy in options.busy:
        load = [subprocess.Popen([sys.executable, "-c", LOAD]) for _ in range(busy)]
        try:
            for spins in options.spins:
                seconds = _in_new_process(spins, options.repeats)
                reference = idle.setdefault(options.spins[0], seconds)
                fair = reference * (cores + busy) / cores
                print(f"{busy:15}{spins:>9}{seconds:9.2f}{seconds / fair:14.2f}", flush=True)
        finally:
            for process in load:
                process.kill()
                process.wait()


def _in_new_process(spins: str, repeats: int) -> float:
    """Return the seconds of the fastest run in a new process with this spin count."""
    environment = {**os.environ, "GOMP_SPINCOUNT": spins}
    command = [sys.executable, "-m", "benchmarks.busy_machine", "--prune", "--repeats"]
    output = subprocess.run(
        [*command, str(repeats)], env=environment, capture_output=True, text=True, check=True
    )
    return float(output.stdout.split()[-1])


def _seconds(repeats: int) -> float:
    """Return the seconds of the fastest of several runs in this process."""
    from benchmarks.pruning_task import PruningTask

    task = PruningTask("demo", "", "demo")
    sample = task.calibration_sample(256, 0)
    return min(task.pruned("akr", {"sparsity": 0.7}, sample)[2] for _ in range(repeats))


if __name__ == "__main__":
    main()
