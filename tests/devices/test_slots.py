"""How many workers a GPU gets. The driver is a stand-in, the processes that ask it are real."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from search.gpus__GONE import is_held
from search.places__GONE import MOST, how_many, needed

from search import workers
from search.cli.options import add_worker_options, parser_of
from search.data.datasets import load
from search.devices.gpu_locks import try_claim
from search.devices.memory import CONTEXT, MIB
from search.errors import DeviceError
from search.spec.study_file import find_study, load_spec

GIB = 1024 * MIB
DRIVER = """
import os
def mem_get_info():
    free, total = open(os.path.join({folder!r}, os.environ["CUDA_VISIBLE_DEVICES"])).read().split()
    return int(free), int(total)
"""


class Driver:
    """A torch whose CUDA has the memory that is set here; only children import it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "torch").mkdir()
        (folder / "torch" / "__init__.py").write_text("from torch import cuda\n")
        (folder / "torch" / "cuda.py").write_text(DRIVER.format(folder=str(folder)))

    def has(self, gpu: str, free: float, total: float) -> None:
        (self.folder / gpu).write_text(f"{int(free * GIB)} {int(total * GIB)}")


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    monkeypatch.setenv("ARCHSEARCH_GPU_LOCKS", str(tmp_path / "locks"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    return Driver(tmp_path)


def test_memory_cores_and_a_cap_bound_the_workers_of_a_gpu(
    driver: Driver, capsys: pytest.CaptureFixture[str]
) -> None:
    driver.has("GPU-a", free=12, total=16)
    trial = 3 * GIB - CONTEXT
    assert how_many(["GPU-a"], trial, cores=16) == 4
    assert how_many(["GPU-a"], trial, cores=3) == 3
    assert how_many(["GPU-a"], 100 * MIB, cores=64) == MOST
    assert how_many(["GPU-a"], 50 * GIB, cores=16) == 1, "a trial that is too large is its own affair"
    assert capsys.readouterr().err.splitlines()[0] == (
        "4 workers on each GPU: a trial takes up to 2,572 MiB of 12,288 MiB, and there are 16 CPU cores for 1"
    )


def test_the_fullest_gpu_decides_and_cores_are_shared(driver: Driver) -> None:
    driver.has("GPU-a", free=70, total=80)
    driver.has("GPU-b", free=7, total=80)
    assert how_many(["GPU-a", "GPU-b"], 3 * GIB - CONTEXT, cores=64) == 2
    assert how_many(["GPU-a", "GPU-b"], 100 * MIB, cores=6) == 3


def test_commands_that_follow_come_to_the_same_number(driver: Driver) -> None:
    """What workers hold is no less room for workers."""
    trial = 3 * GIB - CONTEXT
    driver.has("GPU-a", free=16, total=16)
    first = how_many(["GPU-a"], trial, cores=16)
    claim = try_claim(["GPU-a"], first)
    assert claim is not None
    assert is_held("GPU-a")
    driver.has("GPU-a", free=12, total=16)
    assert how_many(["GPU-a"], trial, cores=16) == first == 5
    claim.close()
    assert not is_held("GPU-a")
    assert how_many(["GPU-a"], trial, cores=16) == 4


def test_a_gpu_that_does_not_answer_is_told_in_a_line(driver: Driver) -> None:
    with pytest.raises(DeviceError, match=r"GPU GPU-x cannot be read: .*No such file.*--per-gpu a number"):
        how_many(["GPU-x"], GIB, cores=4)


def test_a_plan_asks_for_the_memory_only_where_it_counts(
    driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.has("GPU-a", free=16, total=16)
    monkeypatch.setattr(workers, "_cores", lambda: 4)

    def unasked() -> int:
        pytest.fail("nobody asked")

    assert [slot.device for slot in plan("auto", "cpu", "auto", unasked)] == ["cpu"] * 4
    monkeypatch.setattr(workers, "_gpus", lambda: ("GPU-a",))
    assert len(plan("auto", "cuda", 2, unasked)) == 2
    slots = plan("auto", "cuda", "auto", lambda: 5 * GIB)
    assert [(slot.per_gpu, slot.gpus) for slot in slots] == [(2, ("GPU-a",))] * 2
    assert [slot.per_gpu for slot in plan("1", "cuda", "auto", lambda: GIB)] == [4]


def test_a_confirmation_holds_several_splits() -> None:
    spec = load_spec(find_study("digits"))
    parts = load(spec.data)
    alone, confirms = needed(spec, parts), needed(spec, parts, confirms=True)
    held = parts.train.pixels_NHWC.nbytes + parts.val.pixels_NHWC.nbytes
    assert 2 * held < confirms - alone < 4 * held
    assert 100 * MIB < alone < 2 * GIB


@pytest.mark.parametrize(("text", "value"), [("auto", "auto"), ("3", 3)])
def test_the_option(text: str, value: object) -> None:
    parser = parser_of("x", "", "")
    add_worker_options(parser)
    assert parser.parse_args(["--per-gpu", text]).per_gpu == value
    assert parser.parse_args([]).per_gpu == 1
