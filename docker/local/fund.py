"""Fund keys on a local chain: python fund.py RPC_URL KEY_FILE...

Each key gets LAMPORTS from the chain's faucet, unless it has half of them already: a second start adds nothing.
Runs in the listener's image.
"""

import sys
import time
from pathlib import Path
from typing import Any

import httpx
from solders.keypair import Keypair

LAMPORTS = 10_000_000_000
PATIENCE_S = 60.0


def call(rpc: httpx.Client, method: str, *params: object) -> Any:
    answer = rpc.post("", json={"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).raise_for_status()
    document = answer.json()
    if "error" in document:
        sys.exit(f"{method} at {rpc.base_url}: {document['error']}")
    return document["result"]


def balance(rpc: httpx.Client, key: str) -> int:
    """Lamports of `key` at `confirmed`."""
    return int(call(rpc, "getBalance", key, {"commitment": "confirmed"})["value"])


def fund(rpc: httpx.Client, key: str) -> None:
    if balance(rpc, key) >= LAMPORTS // 2:
        return
    call(rpc, "requestAirdrop", key, LAMPORTS)
    give_up = time.monotonic() + PATIENCE_S
    while balance(rpc, key) < LAMPORTS // 2:
        if time.monotonic() > give_up:
            sys.exit(f"the faucet sent {key} nothing within {PATIENCE_S:.0f} s")
        time.sleep(0.2)


def main(url: str, *key_files: str) -> None:
    with httpx.Client(base_url=url, timeout=10.0) as rpc:
        for file in key_files:
            key = str(Keypair.from_json(Path(file).read_text(encoding="ascii")).pubkey())
            fund(rpc, key)
            print(f"{key} has {balance(rpc, key)} lamports")


if __name__ == "__main__":
    main(*sys.argv[1:])
