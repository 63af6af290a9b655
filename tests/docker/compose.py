"""The project's compose file as a project of its own: own name, own secrets, ports that Docker chooses."""

import os
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.needs import absent

PROJECT = Path(__file__).parents[2]
BUILD_AND_START_S = 900
UID = os.getuid() or 10001
GID = os.getgid() or 10001


def needs_engine() -> None:
    """Skip where `docker compose` is no command, or no engine answers it."""
    for question in (["docker", "compose", "version"], ["docker", "version"]):
        try:
            subprocess.run(question, capture_output=True, check=True, timeout=60)
        except (OSError, subprocess.SubprocessError) as error:
            absent(f"there is no Docker engine with compose here: {' '.join(question)}: {error}")


class Compose:
    """One run of docker-compose.yml with the profile `local`, without the caller's .env, override or variables."""

    def __init__(self, folder: Path) -> None:
        self.secrets = folder / "secrets"
        self._env_file = folder / "test.env"
        self._name = f"splitup-test-{uuid.uuid4().hex[:8]}"
        self._environment = {
            name: value
            for name, value in os.environ.items()
            if name == "SPLITUP_WHEELS" or not name.startswith(("SPLITUP_", "AWS_", "COMPOSE_"))
        }
        subprocess.run(
            [PROJECT / "docker" / "make-secrets", self.secrets],
            check=True,
            capture_output=True,
            env=self._environment,
        )
        self._env_file.write_text("".join(f"{name}={value}\n" for name, value in self._settings().items()))

    def _settings(self) -> Mapping[str, object]:
        chosen_by_docker = 0
        return {
            "SPLITUP_UID": UID,
            "SPLITUP_GID": GID,
            "SPLITUP_NODE_KEY_HOST_FILE": self.secrets / "node.json",
            "SPLITUP_TOKEN_HOST_FILE": self.secrets / "token",
            "SPLITUP_REQUESTER_KEY_HOST_FILE": self.secrets / "requester.json",
            "SPLITUP_LISTENER_PORT": chosen_by_docker,
            "SPLITUP_CHAIN_PORT": chosen_by_docker,
            "SPLITUP_CHAIN_WS_PORT": chosen_by_docker,
            "SPLITUP_S3_PORT": chosen_by_docker,
        }

    def run(self, *arguments: str, timeout_s: float = 120, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *("docker", "compose", "--file", PROJECT / "docker-compose.yml", "--profile", "local"),
                *("--project-name", self._name, "--env-file", self._env_file),
                *arguments,
            ],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=check,
        )

    def inside(self, service: str, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `command` in the service's running container, as the service's user."""
        return self.run("exec", "--no-TTY", service, *command, check=check)

    def address(self, service: str, port: int) -> str:
        """`127.0.0.1:N`, where this machine reaches the service's port."""
        return self.run("port", service, str(port)).stdout.strip()

    def container(self, service: str) -> str:
        return self.run("ps", "--all", "--quiet", service).stdout.strip()


def inspect(container: str, template: str) -> str:
    """What `docker inspect` says of the container by a Go template."""
    return subprocess.run(
        ["docker", "inspect", "--format", template, container],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


@contextmanager
def local_node(folder: Path) -> Iterator[Compose]:
    """Everything of the profile `local`, built, up and healthy; gone with its volumes at the end."""
    compose = Compose(folder)
    try:
        started = compose.run(
            "up",
            "--detach",
            "--build",
            "--wait",
            "--wait-timeout",
            "300",
            timeout_s=BUILD_AND_START_S,
            check=False,
        )
        logs = "" if started.returncode == 0 else compose.run("logs", "--no-color", "--tail", "40").stdout
        assert started.returncode == 0, f"docker compose up failed:\n{started.stderr[-4000:]}\n{logs}"
        yield compose
    finally:
        compose.run("down", "--volumes", "--remove-orphans", timeout_s=120)
