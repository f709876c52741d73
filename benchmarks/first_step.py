"""`python -m benchmarks.first_step ours|usual URL STUDY`: seconds since the process began, as two numbers:
when everything is imported, and when the first training step is done. Then it ends, whatever is undone."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any


def main() -> None:
    way, url, name = sys.argv[1:4]
    if way == "ours":
        _ours(url, name)
    else:
        _usual()


def _ours(url: str, name: str) -> None:
    """Our first step, made as search.workers.worker makes it, from the job that search.run would send."""
    from search.data.datasets import load
    from search.spec.study import StudySpec
    from search.storage.connections import watch
    from search.storage.studies import find
    from search.storage.study_record import record_of_study
    from search.training.run import TrainingRun
    from search.workers.job import Job
    from search.workers.stop import Stop
    from search.workers.worker import work

    imported = _age()

    def after_step(_: Any) -> bool:
        _tell(imported)
        return False

    TrainingRun.after_step = after_step  # type: ignore[method-assign]
    stored = record_of_study(find(watch(url, writes=False), name))
    assert stored.spec is not None
    spec = StudySpec.from_canonical(name, stored.spec)
    work(Job(spec, url, name, stored.budget, "cpu", load(spec.data).fingerprint()), Stop())


def _usual() -> None:
    from torch.optim.optimizer import register_optimizer_step_post_hook

    from benchmarks import usual_way

    imported = _age()
    register_optimizer_step_post_hook(lambda *_: _tell(imported))
    sys.argv = ["usual_way", *sys.argv[2:], "1"]
    usual_way.main()


def _tell(imported: float) -> None:
    print(imported, _age(), flush=True)
    os._exit(0)


def _age() -> float:
    """Seconds since the system started this process."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
