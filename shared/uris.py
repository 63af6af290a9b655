"""TensorUri: where a tensor lies.

`s3://bucket/key` or `file:///path`, at most 400 bytes, with an optional fragment: `#name` is one tensor of
the safetensors object, `#*` all of them, none the only one.
"""

import re
from dataclasses import dataclass
from typing import Literal

from shared.errors import InvalidUri

MAX_URI_BYTES = 400
MAX_URIS = 8
ALL_TENSORS = "*"

_URI = re.compile(r"(s3|file)://([A-Za-z0-9._-]*)/([A-Za-z0-9._/-]+)(?:#([A-Za-z0-9._/-]+|\*))?", re.ASCII)
_HASH_NAME = re.compile(r"([0-9A-Fa-f]{64})\.safetensors", re.ASCII)


@dataclass(frozen=True, slots=True)
class ObjectUri:
    """One object: `bucket` is empty for `file`. `key` has no leading slash, no empty segment and no `..`."""

    scheme: Literal["s3", "file"]
    bucket: str
    key: str

    def __str__(self) -> str:
        return f"{self.scheme}://{self.bucket}/{self.key}"

    @property
    def content_hash(self) -> str | None:
        """The SHA-256 (lower-case hex) that the object's bytes must have, if its name commits to one in either case."""
        match = _HASH_NAME.fullmatch(self.key.rsplit("/", 1)[-1])
        return match.group(1).lower() if match else None


@dataclass(frozen=True, slots=True)
class TensorUri:
    object: ObjectUri
    fragment: str | None
    """A tensor's name, `*` for all, or None for the only one."""

    def __str__(self) -> str:
        return str(self.object) + (f"#{self.fragment}" if self.fragment is not None else "")


def parse_tensor_uri(text: str) -> TensorUri:
    """Parse and check one TensorUri. Raises InvalidUri, which says what is wrong with it."""
    shown = ascii(text[:MAX_URI_BYTES])
    if len(text.encode("utf-8", "surrogatepass")) > MAX_URI_BYTES:
        raise InvalidUri(f"the URI {shown}… is longer than {MAX_URI_BYTES} bytes")
    match = _URI.fullmatch(text)
    if match is None:
        raise InvalidUri(
            f"{shown} is not s3://bucket/key or file:///path with characters of A-Z a-z 0-9 . _ - / "
            "and an optional #name or #*"
        )
    scheme, bucket, key, fragment = match.groups()
    if (scheme == "s3") == (bucket == ""):
        raise InvalidUri(f"{shown} needs " + ("a bucket" if scheme == "s3" else "three slashes: file:///path"))
    for segment in [*([bucket] if bucket else []), *key.split("/")]:
        if segment in ("", ".", ".."):
            raise InvalidUri(f"{shown} has an empty segment or one of dots alone")
    return TensorUri(ObjectUri("s3" if scheme == "s3" else "file", bucket, key), fragment)


def parse_object_uri(text: str) -> ObjectUri:
    """Parse the URI of a whole object: a TensorUri without a fragment."""
    uri = parse_tensor_uri(text)
    if uri.fragment is not None:
        raise InvalidUri(f"{text!a} names a tensor; here a whole object is meant, without #")
    return uri.object


def parse_prefix(text: str) -> ObjectUri:
    """Parse a prefix of a setting, such as `s3://bucket/tasks` or `file:///srv/tensors` (no trailing slash).

    `s3://bucket` alone is a prefix with an empty key.
    """
    stripped = text.rstrip("/")
    if re.fullmatch(r"s3://[A-Za-z0-9._-]+", stripped, re.ASCII) and stripped[5:] not in (".", ".."):
        return ObjectUri("s3", stripped[5:], "")
    return parse_object_uri(stripped)


def below(prefix: ObjectUri, *segments: str) -> ObjectUri:
    """The object at `segments` below `prefix`."""
    key = "/".join([*([prefix.key] if prefix.key else []), *segments])
    return ObjectUri(prefix.scheme, prefix.bucket, key)


def relative_key(prefix: ObjectUri, uri: ObjectUri) -> str | None:
    """What of the URI's key follows the prefix, or None if it does not lie below it."""
    if (prefix.scheme, prefix.bucket) != (uri.scheme, uri.bucket):
        return None
    if not prefix.key:
        return uri.key
    return uri.key[len(prefix.key) + 1 :] if uri.key.startswith(prefix.key + "/") else None
