"""Each part of a benchmark in a process of its own, so that its peak memory and its imports are its own.

A part is a module with `main(arguments)`; it answers with one line of JSON on stdout. What is measured around it
is the process as a whole: wall seconds from its start to its end, CPU seconds of all its threads, peak memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from describe.errors import DescribeError


@dataclass(frozen=True)
class Cost:
    """What a process took."""

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


@dataclass(frozen=True)
class Clock:
    """Wall and CPU seconds of this process at some moment."""

    wall: float
    cpu: float

    @classmethod
    def now(cls) -> Clock:
        """This moment."""
        return cls(time.monotonic(), time.process_time())

    def since(self, earlier: Clock) -> dict[str, float]:
        """Seconds from an earlier moment to this one."""
        return {"wall_seconds": self.wall - earlier.wall, "cpu_seconds": self.cpu - earlier.cpu}


def peak_bytes() -> int:
    """Highest resident memory of this process so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)


def run_part(module: str, arguments: Sequence[str], threads: int | None) -> tuple[dict[str, Any], Cost]:
    """Run `python -m module arguments…` and wait for its answer.

    Args:
        module: a module of this package with a `main`.
        arguments: its command line.
        threads: for the products; None leaves it to the environment.

    Returns:
        (its answer, what the process took).

    Raises:
        DescribeError: it failed; the message ends with the last line that it wrote.
    """
    environment = dict(os.environ, TRANSFORMERS_VERBOSITY="error", TOKENIZERS_PARALLELISM="true")
    if threads is not None:
        environment["OMP_NUM_THREADS"] = environment["MKL_NUM_THREADS"] = str(threads)
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments], env=environment, capture_output=True, text=True
    )
    wall = time.monotonic() - begin
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr.strip().splitlines() or [f"it ended with status {done.returncode}"])[-1]
        raise DescribeError(f"The part {module} {' '.join(arguments[:1])} of the benchmark failed: {said}")
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer, Cost(wall, answer.pop("process_cpu_seconds"), answer.pop("process_peak_bytes"))


def answer(values: dict[str, Any]) -> None:
    """Print a part's answer, with what the process has taken."""
    took = {"process_cpu_seconds": time.process_time(), "process_peak_bytes": peak_bytes()}
    sys.stdout.write(json.dumps(values | took) + "\n")
