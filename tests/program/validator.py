"""A real solana-test-validator whose first block holds given accounts and programs."""

import base64
import json
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from solders.account import Account
from solders.pubkey import Pubkey

from cli.localnet.ports import free_ports

START_S = 60.0
GOSSIP_PORTS = 40


class Rpc:
    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def __call__(self, method: str, *params: object) -> object:
        return self.batch([(method, params)])[0]

    def batch(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[object]:
        body = [
            {"jsonrpc": "2.0", "id": number, "method": method, "params": list(params)}
            for number, (method, params) in enumerate(calls)
        ]
        request = urllib.request.Request(self.url, json.dumps(body).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as response:
            answers = sorted(json.load(response), key=lambda answer: answer["id"])
        for answer in answers:
            if "error" in answer:
                raise RuntimeError(f"the validator answered {answer['error']}")
        return [answer["result"] for answer in answers]


def write_accounts(folder: Path, accounts: Mapping[Pubkey, Account]) -> None:
    """In the form that `--account-dir` reads."""
    for address, account in accounts.items():
        entry = {
            "lamports": account.lamports,
            "data": [base64.b64encode(bytes(account.data)).decode(), "base64"],
            "owner": str(account.owner),
            "executable": False,
            "rentEpoch": 2**64 - 1,
            "space": len(account.data),
        }
        text = json.dumps({"pubkey": str(address), "account": entry})
        (folder / f"{address}.json").write_text(text)


@contextmanager
def validator(
    accounts: Mapping[Pubkey, Account], programs: Mapping[Pubkey, Path], without: Sequence[str] = ()
) -> Iterator[Rpc]:
    """Runs until the block ends. Transactions are taken as soon as it is entered. `without` names features."""
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / "accounts"
        folder.mkdir()
        write_accounts(folder, accounts)
        first = free_ports(GOSSIP_PORTS + 4)
        command = ["solana-test-validator", "--ledger", f"{work}/ledger", "--reset", "--quiet"]
        command += ["--bind-address", "127.0.0.1", "--rpc-port", str(first), "--faucet-port", str(first + 2)]
        command += ["--gossip-port", str(first + 3)]
        command += ["--dynamic-port-range", f"{first + 4}-{first + 4 + GOSSIP_PORTS - 1}"]
        command += ["--account-dir", str(folder)]
        for program_id, elf in programs.items():
            command += ["--upgradeable-program", str(program_id), str(elf), "none"]
        for feature in without:
            command += ["--deactivate-feature", feature]
        with Path(work, "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            try:
                rpc = Rpc(first)
                wait_for_slots(rpc, process, Path(work, "log"))
                yield rpc
            finally:
                process.terminate()


def wait_for_slots(rpc: Rpc, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise RuntimeError(f"solana-test-validator ended: {log.read_text()[-2000:]}")
        try:
            if int(str(rpc("getSlot", {"commitment": "confirmed"}))) > 2:
                return
        except (urllib.error.URLError, ConnectionError):
            pass
        time.sleep(0.1)
    raise RuntimeError(f"solana-test-validator made no slots in {START_S} s: {log.read_text()[-2000:]}")
