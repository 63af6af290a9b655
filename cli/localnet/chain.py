"""A local chain, as whoever started it describes it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chain:
    """`name` is the program that runs it."""

    name: str
    rpc_url: str
    ws_url: str
