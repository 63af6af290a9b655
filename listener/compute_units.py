"""How many of the chain's compute units a submission may take. Pure.

Of the reference program the figure is known: `pytest -s tests/program/test_costs.py` measures it in LiteSVM and fails
where a submission takes more than is said here. What another program takes is simulated.
"""

from typing import Final

MAX_LIMIT: Final = 1_400_000
"""The runtime's, for one transaction."""
UNITS_PER_SUBMISSION: Final = 1_600
UNITS_PER_DATA_BYTE: Final = 14
"""Of the instruction's data: the program reads the ids, and checks every byte of a URI."""
UNITS_PER_BUILTIN: Final = 150
"""Setting the limit, setting the price, a transfer: each is an instruction that the runtime itself carries out."""


def of_reference_program(data_bytes: int) -> int:
    """At most what `task_completed` and `task_failed` take with so many bytes of instruction data."""
    return UNITS_PER_SUBMISSION + UNITS_PER_DATA_BYTE * data_bytes


def limit_for(units: int, doublings: int = 0) -> int:
    """A fifth above `units`, twice that for each signature that landed and ran out of them."""
    return min(MAX_LIMIT, -(-units * 6 // 5) << doublings)
