"""Base58 with Bitcoin's alphabet, for bytes that are neither key, hash nor signature."""

from typing import Final

ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_VALUE: Final = {character: value for value, character in enumerate(ALPHABET)}


def encode(raw: bytes) -> str:
    zeros = len(raw) - len(raw.lstrip(b"\0"))
    number, digits = int.from_bytes(raw, "big"), ""
    while number:
        number, digit = divmod(number, 58)
        digits = ALPHABET[digit] + digits
    return ALPHABET[0] * zeros + digits


def decode(text: str) -> bytes:
    """Raises ValueError where a character is not of the alphabet."""
    zeros, number = len(text) - len(text.lstrip(ALPHABET[0])), 0
    for character in text:
        if character not in _VALUE:
            raise ValueError(f"{character!a} is not a character of base58")
        number = number * 58 + _VALUE[character]
    return bytes(zeros) + number.to_bytes((number.bit_length() + 7) // 8, "big")
