"""Runs a filter of system calls as the kernel would: the few instructions of classic BPF that ours are made of."""

import struct
from collections.abc import Sequence


def verdict(code: bytes, number: int, audit: int, arguments: Sequence[int]) -> int:
    """What the program returns for a call."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    data = struct.pack("<IIQ6Q", number, audit, 0, *padded)
    steps = list(struct.iter_unpack("=HBBI", code))
    at = loaded = 0
    while True:
        operation, true, false, value = steps[at]
        at += 1
        if operation == 0x20:
            (loaded,) = struct.unpack_from("<I", data, value)
        elif operation == 0x54:
            loaded &= value
        elif operation in (0x15, 0x35):
            holds = loaded == value if operation == 0x15 else loaded >= value
            at += true if holds else false
        else:
            assert operation == 0x06, hex(operation)
            return int(value)
