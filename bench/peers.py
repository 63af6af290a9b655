"""Other systems that are measured beside ours where they are installed. None is a dependency."""

from importlib.util import find_spec
from typing import Final

PEERS: Final = {
    "litserve": "LitServe",
    "obstore": "obstore",
    "runai_model_streamer_s3": "runai-model-streamer[s3]",
}
"""By the module that is there where the peer is."""


def is_installed(module: str) -> bool:
    return find_spec(module) is not None


def missing_peers() -> str | None:
    """What stays unmeasured, and how it is installed; None where all are there."""
    names = [name for module, name in PEERS.items() if not is_installed(module)]
    return f"not installed, so not measured: {', '.join(names)} (pip install -e '.[bench]')" if names else None
