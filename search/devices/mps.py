"""Several workers on one GPU: processes take turns there, unless NVIDIA's MPS is between."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence

from search.devices.slots import Slot

PROGRAM = "nvidia-cuda-mps-control"
ANSWER_SECONDS = 10.0
"""Seconds that the daemon has for an answer."""


def advice(slots: Sequence[Slot]) -> str:
    """A line on how these workers could run at the same time; empty where they do, or have a GPU each."""
    several = slots[0].per_gpu > 1 and len(slots) > len(slots[0].gpus)
    if not several or _is_served():
        return ""
    return (
        "workers on one GPU take turns; to let them run at the same time, start NVIDIA's MPS before them, "
        f"on the host: {PROGRAM} -d"
    )


def _is_served() -> bool:
    """Whether a daemon answers, where CUDA looks for it."""
    if os.environ.get("CUDA_MPS_PIPE_DIRECTORY"):
        return True
    if shutil.which(PROGRAM) is None:
        return False
    try:
        asked = subprocess.run(
            [PROGRAM],
            input="get_server_list\n",
            text=True,
            capture_output=True,
            timeout=ANSWER_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0
