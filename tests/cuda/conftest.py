"""Every test of this folder needs a CUDA device."""

import pytest

from tests.cuda.device import no_device
from tests.needs import absent


@pytest.fixture(autouse=True, scope="session")
def device() -> None:
    if (why := no_device()) is not None:
        absent(why)
