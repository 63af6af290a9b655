"""What every HTTP client of the processes and the commands has in common."""

import sys
from importlib.util import find_spec
from typing import Final

NO_PROXY_FOR_LOOPBACK: Final[dict[str, None]] = {
    "all://127.0.0.1": None,
    "all://localhost": None,
    "all://[::1]": None,
}
"""httpx's `mounts`: HTTP_PROXY and the like hold for the world, but a proxy's loopback is another machine's."""

# httpcore imports sniffio several times for each request, and does without where it is not installed; each time the
# whole path was searched for it, a third of a request's time. This says once that it is not there.
if "sniffio" not in sys.modules and find_spec("sniffio") is None:
    sys.modules["sniffio"] = None  # type: ignore[assignment]
