"""`make program-deploy` leaves a program that runs, in the build that the cluster takes."""

import base64
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest
from solders.account import Account
from solders.hash import Hash
from solders.keypair import Keypair
from solders.message import Message
from solders.pubkey import Pubkey
from solders.transaction import Transaction

from program import program_bytes
from tests.needs import needs
from tests.program.instructions import SYSTEM_PROGRAM, Assignment, Builder
from tests.program.validator import Rpc, validator

SBPF_V3 = "5cC3foj77CWun58pC51ebHFUWavHWKarWyR5UUik7dnC"
"""Feature of SIMD-0178: v3 may be deployed."""
NO_OLDER_SBPF = "B8JJXCy5amZyWG9r7EnUYLwzXSXTxG7GZ1qZ1qggo83g"
"""Feature of SIMD-0500: nothing older may."""
LOADER = Pubkey.from_string("BPFLoaderUpgradeab1e11111111111111111111111")
PURSE = 10**11
ASSIGNED_WITHIN_S = 60
DATA_HEAD = 45
"""Bytes before the program's own in its data account."""


def key_file(folder: Path, name: str) -> tuple[Keypair, Path]:
    keypair, path = Keypair(), folder / f"{name}.json"
    path.touch(mode=0o600)
    path.write_text(keypair.to_json())
    return keypair, path


def deployed(rpc: Rpc, payer: Path, program: Path) -> str:
    command = [Path(sys.executable).with_name("splitup-node"), "deploy", "--rpc-url", rpc.url]
    command += ["--payer", payer, "--program", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def program_data(rpc: Rpc, program: Pubkey) -> bytes:
    address, _ = Pubkey.find_program_address([bytes(program)], LOADER)
    found = rpc("getAccountInfo", str(address), {"encoding": "base64", "commitment": "confirmed"})
    return base64.b64decode(found["value"]["data"][0])[DATA_HEAD:]  # type: ignore[index]


def assign(rpc: Rpc, program: Pubkey, requester: Keypair) -> int:
    """Assign a task by the deployed program; returns the length of its account."""
    pair = Builder(program, requester.pubkey(), Keypair().pubkey())
    latest = rpc("getLatestBlockhash", {"commitment": "confirmed"})
    message = Message([pair.assign_task(Assignment(deadline=int(time.time()) + 600))], requester.pubkey())
    signed = Transaction([requester], message, Hash.from_string(latest["value"]["blockhash"]))  # type: ignore[index]
    rpc("sendTransaction", base64.b64encode(bytes(signed)).decode(), {"encoding": "base64", "skipPreflight": True})
    end = time.monotonic() + ASSIGNED_WITHIN_S
    while time.monotonic() < end:
        config = {"encoding": "base64", "commitment": "confirmed"}
        found = rpc("getAccountInfo", str(pair.address), config)["value"]  # type: ignore[index]
        if found:
            assert found["owner"] == str(program)
            return int(found["space"])
        time.sleep(0.2)
    raise AssertionError(f"the deployed program assigned nothing within {ASSIGNED_WITHIN_S} s")


@pytest.mark.validator
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("version", "without"),
    [("v3", ()), ("v0", (SBPF_V3, NO_OLDER_SBPF))],
    ids=["v3", "v0, where v3 is not active"],
)
def test_the_build_that_the_cluster_takes_is_deployed_and_runs(
    tmp_path: Path, version: Literal["v0", "v3"], without: tuple[str, ...]
) -> None:
    needs("solana-test-validator", "a deployment is to a real validator")
    payer, payer_file = key_file(tmp_path, "payer")
    program, program_file = key_file(tmp_path, "program")
    genesis = {payer.pubkey(): Account(PURSE, b"", SYSTEM_PROGRAM)}
    with validator(genesis, {}, without) as rpc:
        said = deployed(rpc, payer_file, program_file)
        assert said == f"deployed the sBPF {version} build at {program.pubkey()}\n"
        assert program_data(rpc, program.pubkey()) == program_bytes(version)
        assert assign(rpc, program.pubkey(), payer) > 120
