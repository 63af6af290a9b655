"""The node's key: a file as the Solana CLI writes it, a JSON list of 64 numbers.

The key itself never stands in an error or a log line. As solders shows the secret in `repr()` and `str()` of a
Keypair, only its `pubkey()` is ever formatted.
"""

import json
import os
import stat
from pathlib import Path
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey

from shared.errors import ConfigurationError, KeyFileError

KEY_BYTES: Final = 64


def load_keypair(path: Path) -> Keypair:
    """Read the key. Raises KeyFileError where it cannot be read, others can read it, or it is not a key."""
    try:
        with path.open(encoding="ascii") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read() if not mode & 0o077 else None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not a text file"
        raise KeyFileError(f"cannot read the key file {path}: {reason}") from None
    if text is None:
        raise KeyFileError(f"the key file {path} can be read by others (mode {mode:o}): run chmod 600 {path}")
    return _parse(text, path)


def _parse(text: str, path: Path) -> Keypair:
    """Errors of the parsers are not chained: they may quote the secret."""
    wanted = "a JSON list of 64 numbers from 0 to 255, as solana-keygen writes it"
    try:
        numbers = json.loads(text)
        if not isinstance(numbers, list) or len(numbers) != KEY_BYTES:
            raise ValueError
        return Keypair.from_bytes(bytes(numbers))
    except (ValueError, TypeError, RecursionError):
        raise KeyFileError(f"the key file {path} is not {wanted}") from None


def parse_public_key(text: str, what: str) -> Pubkey:
    """Raises ConfigurationError, which names `what`."""
    try:
        return Pubkey.from_string(text)
    except ValueError as error:
        raise ConfigurationError(f"{what} {text[:80]!a} is not a public key in base58") from error
