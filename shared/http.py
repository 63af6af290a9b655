"""What every HTTP client of the processes and the commands has in common."""

from typing import Final

NO_PROXY_FOR_LOOPBACK: Final[dict[str, None]] = {
    "all://127.0.0.1": None,
    "all://localhost": None,
    "all://[::1]": None,
}
"""httpx's `mounts`: HTTP_PROXY and the like hold for the world, but a proxy's loopback is another machine's."""
