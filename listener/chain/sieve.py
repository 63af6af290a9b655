"""Which logs may tell of this node: what certainly does not is told by a few searches in the text, and not parsed.

A feed that follows the program's id brings the work of every other node too.
"""

import base64
from collections.abc import Sequence
from typing import Final

from solders.pubkey import Pubkey

from listener.chain.events import TRUNCATED

_ALIGNMENTS: Final = ((0, slice(0, 42)), (1, slice(2, 44)), (2, slice(3, 45)))
"""Bytes before the key, modulo three, and which characters of the base64 text the key alone decides."""


class Sieve:
    """Every event that concerns a node holds its key."""

    def __init__(self, program_id: Pubkey, node: Pubkey) -> None:
        self._invoked = f"Program {program_id} invoke ["
        self._keys = tuple(
            base64.b64encode(bytes(before) + bytes(node)).decode()[decided] for before, decided in _ALIGNMENTS
        )

    def may_tell(self, logs: Sequence[str]) -> bool:
        """False only where every line is there and none holds an event of this node.

        True where lines are missing, and where the program calls itself, since events of that are not in the log.
        Raises TypeError where it is no list of texts.
        """
        if not logs or TRUNCATED in logs:
            return True
        text = "\n".join(logs)
        if text.count(" invoke [") != text.count(" success") + text.count(" failed: "):
            return True
        return text.count(self._invoked) > 1 or any(key in text for key in self._keys)
