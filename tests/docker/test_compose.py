"""`docker compose --profile local up`: both images, a chain, S3, and one task to its payment."""

import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
import torch

from requester.watch import watch
from tests.docker.compose import BUILD_AND_START_S, UID, Compose, inspect, local_node, needs_engine
from tests.docker.requester import OUTPUTS, local_session, node_key
from tests.e2e.desk import FEE, REWARD, Desk

pytestmark = [pytest.mark.docker, pytest.mark.timeout(BUILD_AND_START_S + 300)]

PROCESSES = ("listener", "compute")


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Compose]:
    needs_engine()
    with local_node(tmp_path_factory.mktemp("compose")) as compose:
        yield compose


@pytest.mark.parametrize(
    ("service", "package"),
    [(PROCESSES[0], package) for package in ("torch", "boto3", "safetensors", "compute", "requester")]
    + [(PROCESSES[1], package) for package in ("solana", "solders", "anchorpy", "listener", "requester")],
)
def test_an_image_holds_nothing_of_the_other_side(node: Compose, service: str, package: str) -> None:
    found = node.inside(service, "python", "-c", f"import importlib.util as u; print(u.find_spec({package!r}))")
    assert found.stdout.strip() == "None"


def test_the_key_is_in_the_listener_only(node: Compose) -> None:
    assert node.inside("listener", "ls", "/run/secrets").stdout.split() == ["node_key", "token"]
    assert node.inside("compute", "ls", "/run/secrets").stdout.split() == ["token"]
    assert "KEYPAIR" not in node.inside("compute", "env").stdout


@pytest.mark.parametrize("service", PROCESSES)
def test_a_process_has_no_privilege(node: Compose, service: str) -> None:
    assert node.inside(service, "id", "-u").stdout.strip() == str(UID)
    status = node.inside(service, "cat", "/proc/1/status").stdout
    facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert int(facts["CapBnd"], 16) == 0
    assert facts["NoNewPrivs"] == "1"
    assert facts["Uid"].split() == [str(UID)] * 4


@pytest.mark.parametrize("service", PROCESSES)
def test_the_root_file_system_is_read_only_and_the_state_is_not(node: Compose, service: str) -> None:
    refused = node.inside(service, "touch", "/written", check=False)
    assert "Read-only file system" in refused.stderr
    node.inside(service, "touch", "/var/lib/splitup/written", "/tmp/written")


@pytest.mark.parametrize("service", PROCESSES)
def test_a_process_is_healthy_by_its_own_check_and_restarts_unless_stopped(node: Compose, service: str) -> None:
    container = node.container(service)
    assert (
        inspect(container, "{{.State.Health.Status}} {{.HostConfig.RestartPolicy.Name}}")
        == "healthy unless-stopped"
    )
    assert inspect(container, "{{.Config.StopSignal}} {{.Config.StopTimeout}}") == "SIGTERM 40"


def test_listener_and_compute_meet_in_a_network_without_a_way_out(node: Compose) -> None:
    networks = {
        service: set(
            inspect(node.container(service), "{{range $n, $_ := .NetworkSettings.Networks}}{{$n}} {{end}}").split()
        )
        for service in (*PROCESSES, "chain", "s3")
    }
    (shared,) = networks["listener"] & networks["compute"]
    assert not networks["chain"] & networks["compute"]
    assert not networks["s3"] & networks["listener"]
    internal = subprocess.run(
        ["docker", "network", "inspect", "--format", "{{.Internal}}", shared],
        capture_output=True,
        text=True,
        check=True,
    )
    assert internal.stdout.strip() == "true"


def test_readiness_needs_the_token(node: Compose) -> None:
    url = f"http://{node.address('listener', 8740)}/ready"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=10)
    assert refused.value.code == 401
    refused.value.close()
    token = (node.secrets / "token").read_text().strip()
    with urllib.request.urlopen(
        urllib.request.Request(url, headers={"authorization": f"Bearer {token}"}), timeout=10
    ) as answer:
        assert answer.status == 200


def test_workers_are_locked_as_the_default_asks(node: Compose) -> None:
    ask = """import json, pathlib, urllib.request as u
token = pathlib.Path("/run/secrets/token").read_text().strip()
with u.urlopen(u.Request("http://127.0.0.1:8750/ready", headers={"authorization": f"Bearer {token}"})) as answer:
    print(json.load(answer)["checks"]["sandbox"]["value"])"""
    held = node.inside("compute", "python", "-c", ask).stdout
    assert held.startswith("held by no files (Landlock), few system calls (seccomp)")


async def test_a_task_is_computed_stored_and_paid(node: Compose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "splitup-local")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "splitup-local-secret")
    a, b = torch.arange(1000.0), torch.linspace(-1, 1, 1000)
    address = node_key(node).pubkey()
    async with local_session(node) as session:
        before = await session.rpc.get_balance(address)
        assigned = await Desk(session, session.key).assign(address, tensors=(a, b))
        completed = await watch(session, assigned.assignment.pair)
        ((uri, output),) = completed.outputs
        assert torch.equal(output, a + b)
        assert uri.startswith(f"{OUTPUTS}/{session.requester}/")
        assert await session.rpc.get_balance(address) == before + REWARD - FEE
