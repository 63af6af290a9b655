"""What the two builds call: neither can panic or allocate, and both call the same."""

import re
import struct
from collections.abc import Iterator

from tests.program.chain import build

SYSCALLS = {
    b"sol_get_sysvar",
    b"sol_invoke_signed_c",
    b"sol_log_data",
    b"sol_memcmp_",
    b"sol_memcpy_",
    b"sol_memset_",
    b"sol_sha256",
    b"sol_try_find_program_address",
}
CALL, EXECUTABLE, PROGRAM_HEADER = 0x85, 1, "<IIQQQQQQ"


def murmur3(name: bytes) -> int:
    """The 32 bits by which sBPF v3 knows a syscall."""

    def rotated(number: int, by: int) -> int:
        return (number << by | number >> 32 - by) & 0xFFFFFFFF

    def mixed(block: bytes) -> int:
        return rotated(int.from_bytes(block, "little") * 0xCC9E2D51 & 0xFFFFFFFF, 15) * 0x1B873593 & 0xFFFFFFFF

    whole = len(name) // 4 * 4
    digest = 0
    for at in range(0, whole, 4):
        digest = (rotated(digest ^ mixed(name[at : at + 4]), 13) * 5 + 0xE6546B64) & 0xFFFFFFFF
    digest ^= mixed(name[whole:]) ^ len(name)
    digest = (digest ^ digest >> 16) * 0x85EBCA6B & 0xFFFFFFFF
    digest = (digest ^ digest >> 13) * 0xC2B2AE35 & 0xFFFFFFFF
    return digest ^ digest >> 16


def executable_words(elf: bytes) -> Iterator[bytes]:
    """Each eight bytes of the segments that are code."""
    (table,) = struct.unpack_from("<Q", elf, 32)
    (count,) = struct.unpack_from("<H", elf, 56)
    for number in range(count):
        entry = struct.unpack_from(PROGRAM_HEADER, elf, table + number * struct.calcsize(PROGRAM_HEADER))
        _, flags, offset, _, _, length, *_ = entry
        if flags & EXECUTABLE:
            yield from (elf[at : at + 8] for at in range(offset, offset + length, 8))


def test_nothing_in_the_v0_build_can_panic_or_allocate() -> None:
    """No path to a panic was left by the compiler: the syscalls that end a program are not even imported."""
    named = set(re.findall(rb"\0((?:sol_|abort|custom_panic)\w*)(?=\0)", build("v0")))
    assert named == SYSCALLS


def test_nothing_in_the_v3_build_can_panic_or_allocate() -> None:
    """There a call whose source register is 0 is a syscall, named by its hash."""
    words = executable_words(build("v3"))
    called = {word[4:] for word in words if word[0] == CALL and word[1] >> 4 == 0}
    assert called == {struct.pack("<I", murmur3(name)) for name in SYSCALLS}
