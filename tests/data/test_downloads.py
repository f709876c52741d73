"""Downloads from a real server on this machine: cut half-way, asked for by several processes, refused."""

import gzip
import hashlib
import io
import pickle
import socket
import tarfile
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from torchvision import datasets

from search.data import downloads
from search.data.config import DataConfig
from search.data.datasets import load
from search.data.images import Parts
from search.errors import DataError

Changes = dict[str, dict[str, Any]]  # attributes of torchvision's classes, by class


class Server(ThreadingHTTPServer):
    """Serves `files`; of the next `cuts` downloads of a file it sends but the first half."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.cuts: Counter[str] = Counter()
        self.downloads: Counter[str] = Counter()
        self.url = f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        content = self.server.files.get(name)
        self.send_response(200 if content else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if content is None or "Method" in self.headers:  # torchvision asks so whether it is redirected
            return
        self.server.downloads[name] += 1
        cut = self.server.cuts[name] > 0
        self.server.cuts[name] -= cut
        self.wfile.write(content[: len(content) // 2] if cut else content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def idx(array: np.ndarray) -> bytes:
    return (
        bytes([0, 0, 8, array.ndim])
        + np.array(array.shape, ">u4").tobytes()
        + array.astype(np.uint8).tobytes()
    )


def mnist_files() -> dict[str, bytes]:
    rng = np.random.default_rng(0)
    return {
        "train-images-idx3-ubyte": idx(rng.integers(0, 256, (40, 28, 28))),
        "train-labels-idx1-ubyte": idx(np.arange(40) % 10),
        "t10k-images-idx3-ubyte": idx(rng.integers(0, 256, (20, 28, 28))),
        "t10k-labels-idx1-ubyte": idx(np.arange(20) % 10),
    }


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


def offer_mnist(server: Server) -> Changes:
    archives = {f"{name}.gz": gzip.compress(content) for name, content in mnist_files().items()}
    server.files |= archives
    resources = [(name, md5(content)) for name, content in archives.items()]
    return {"MNIST": {"mirrors": [server.url], "resources": resources}}


class OldPickler(pickle.Pickler):
    """Writes NumPy's dtypes as CIFAR's files hold them."""

    def reducer_override(self, value: Any) -> Any:
        return (np.dtype, ("u1", 0, 1)) if isinstance(value, np.dtype) else NotImplemented


def pickled(value: Any) -> bytes:
    buffer = io.BytesIO()
    OldPickler(buffer, protocol=2).dump(value)
    return buffer.getvalue()


def offer_cifar10(server: Server) -> Changes:
    rng = np.random.default_rng(0)
    batch = {"data": rng.integers(0, 256, (20, 3072), np.uint8), "labels": [n % 10 for n in range(20)]}
    batches = {f"data_batch_{number}": pickled(batch) for number in (1, 2)}
    batches |= {"test_batch": pickled(batch), "batches.meta": pickled({"label_names": list("abcdefghij")})}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server.files["cifar-10-python.tar.gz"] = buffer.getvalue()
    names = [[name, md5(content)] for name, content in batches.items()]
    return {
        "CIFAR10": {
            "url": f"{server.url}cifar-10-python.tar.gz",
            "tgz_md5": md5(buffer.getvalue()),
            "train_list": names[:2],
            "test_list": names[2:3],
            "meta": {"filename": "batches.meta", "key": "label_names", "md5": names[3][1]},
        }
    }


@pytest.fixture(params=["mnist", "cifar10"])
def offered(
    request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, str]:
    """The data set on offer, and the file of it that a test may have cut."""
    changes = offer_mnist(server) if request.param == "mnist" else offer_cifar10(server)
    for name, attributes in changes.items():
        for key, value in attributes.items():
            monkeypatch.setattr(getattr(datasets, name), key, value)
    return request.param, list(server.files)[-1]


def read(name: str, root: Path) -> Parts:
    return load(DataConfig(name=name), root)


def left_in(root: Path) -> list[str]:
    return sorted(file.name for file in root.rglob("*") if file.is_file() and not file.name.endswith(".lock"))


def write_raw(root: Path, files: dict[str, bytes]) -> Path:
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in files.items():
        (raw / name).write_bytes(content)
    return raw


def test_a_download_is_whole_and_not_repeated(
    tmp_path: Path, server: Server, offered: tuple[str, str]
) -> None:
    name, _ = offered
    parts = read(name, tmp_path)
    assert server.downloads == Counter(list(server.files))
    assert parts.image_shape == ((1, 28, 28) if name == "mnist" else (3, 32, 32))
    assert parts.class_names[1] == ("1 - one" if name == "mnist" else "b")
    assert [len(part.labels_N) for part in (parts.train, parts.val, parts.test)] == [30, 10, 20]
    assert read(name, tmp_path).fingerprint() == parts.fingerprint()
    assert server.downloads == Counter(list(server.files))


def test_pixels_and_labels_arrive_as_they_are(
    tmp_path: Path, server: Server, offered: tuple[str, str]
) -> None:
    test = read(offered[0], tmp_path).test
    rng = np.random.default_rng(0)
    if offered[0] == "mnist":
        rng.integers(0, 256, (40, 28, 28))
        expected = rng.integers(0, 256, (20, 28, 28))[..., None]
    else:
        expected = rng.integers(0, 256, (20, 3072), np.uint8).reshape(20, 3, 32, 32).transpose(0, 2, 3, 1)
    assert np.array_equal(test.pixels_NHWC, expected)
    assert list(test.labels_N) == [number % 10 for number in range(20)]


def test_a_download_cut_once_is_tried_once_more(
    tmp_path: Path, server: Server, offered: tuple[str, str]
) -> None:
    name, cut = offered
    server.cuts[cut] = 1
    assert read(name, tmp_path).classes == 10
    assert server.downloads == Counter([*server.files, cut])


def test_a_download_cut_twice_leaves_no_partial_file(
    tmp_path: Path, server: Server, offered: tuple[str, str]
) -> None:
    name, cut = offered
    server.cuts[cut] = 2
    with pytest.raises(DataError) as refusal:
        read(name, tmp_path)
    message = str(refusal.value)
    assert message.startswith(f"{name} could not be downloaded to {tmp_path}: ")
    assert "by hand, or set ARCHSEARCH_DATA" in message
    assert message.count("\n") == 1
    assert server.downloads[cut] == 2
    assert not {cut, cut.removesuffix(".gz")} & set(left_in(tmp_path))
    for file in tmp_path.rglob("*.gz"):
        assert file.read_bytes() == server.files[file.name]
    assert read(name, tmp_path).classes == 10
    assert server.downloads[cut] == 3


@pytest.mark.parametrize("victim", ["cifar-10-batches-py/data_batch_2", "cifar-10-batches-py/batches.meta"])
@pytest.mark.parametrize("offered", ["cifar10"], indirect=True)
def test_a_cut_file_is_unpacked_anew_from_a_whole_archive(
    tmp_path: Path, server: Server, offered: tuple[str, str], victim: str
) -> None:
    before = read("cifar10", tmp_path).fingerprint()
    (tmp_path / victim).write_bytes((tmp_path / victim).read_bytes()[:100])
    assert read("cifar10", tmp_path).fingerprint() == before
    assert server.downloads[offered[1]] == 1


@pytest.mark.parametrize("size", [0, 3, 7, 12, 5000])
@pytest.mark.parametrize("offered", ["mnist"], indirect=True)
def test_a_cut_raw_file_is_replaced(
    tmp_path: Path, server: Server, offered: tuple[str, str], size: int
) -> None:
    files = mnist_files()
    raw = write_raw(tmp_path, {**files, "train-images-idx3-ubyte": files["train-images-idx3-ubyte"][:size]})
    assert read("mnist", tmp_path).classes == 10
    assert (raw / "train-images-idx3-ubyte").read_bytes() == files["train-images-idx3-ubyte"]


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every connection is refused: the port is taken, yet nobody listens at it."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{deaf.getsockname()[1]}/"])
        yield


def test_raw_files_put_there_by_hand_are_enough(tmp_path: Path, no_network: None) -> None:
    write_raw(tmp_path, mnist_files())
    parts = read("mnist", tmp_path)
    assert (parts.classes, len(parts.test.labels_N)) == (10, 20)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "MNIST"
    ]  # a folder without write access will do


@pytest.mark.parametrize("victim", list(mnist_files()))
def test_a_cut_raw_file_is_never_used(tmp_path: Path, no_network: None, victim: str) -> None:
    files = mnist_files()
    write_raw(tmp_path, {**files, victim: files[victim][:-5]})
    with pytest.raises(DataError, match="could not be downloaded"):
        read("mnist", tmp_path)
    assert left_in(tmp_path) == sorted(set(files) - {victim})


def test_a_data_folder_that_cannot_be_made(tmp_path: Path, no_network: None) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(DataError, match=f"could not be downloaded to {tmp_path / 'file'}"):
        read("mnist", tmp_path / "file")


def test_labels_beyond_the_classes_are_refused(tmp_path: Path, no_network: None) -> None:
    write_raw(tmp_path, {**mnist_files(), "train-labels-idx1-ubyte": idx(np.arange(40) % 11)})
    with pytest.raises(DataError, match="y_train must be below the 10 classes, found 10"):
        read("mnist", tmp_path)


def test_whoever_waited_for_the_lock_finds_the_files_and_downloads_nothing(
    tmp_path: Path, server: Server, offered: tuple[str, str]
) -> None:
    """However many ask, one downloads: here another holds the lock, and fetches meanwhile."""
    name, _ = offered
    with ThreadPoolExecutor(1) as pool:
        with FileLock(tmp_path / f".{name}.lock"):
            waiting = pool.submit(read, name, tmp_path)
            with pytest.raises(StillRunning):
                waiting.result(timeout=0.5)
            assert not server.downloads
            downloads._download(getattr(datasets, downloads.CLASSES[name]), name, tmp_path)
            assert server.downloads == Counter(list(server.files))
        assert waiting.result().classes == 10
    assert server.downloads == Counter(list(server.files))


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lock would be kept for good; and the time-out of everybody else stays as it was."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(downloads, "STALLED_S", 0.1)
    monkeypatch.setattr(socket, "getdefaulttimeout", lambda: 7.0)
    set_to: list[float | None] = []
    stock = socket.setdefaulttimeout
    monkeypatch.setattr(socket, "setdefaulttimeout", lambda seconds: (set_to.append(seconds), stock(seconds)))
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(8)  # it accepts, and says nothing
        monkeypatch.setattr(datasets.MNIST, "mirrors", [f"http://127.0.0.1:{silent.getsockname()[1]}/"])
        try:
            with pytest.raises(DataError, match="could not be downloaded"):
                read("mnist", tmp_path)
        finally:
            stock(None)
    assert set_to == [0.1, 7.0]
