"""Where a task's outputs go and the bytes they are: both follow from the task and the tensors alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from compute.safetensors_header import encode_header
from compute.specs import TensorSpec
from shared.errors import ConfigurationError
from shared.ids import MAX_ID_LENGTH, Requester, TaskKey
from shared.uris import MAX_URI_BYTES, MAX_URIS, ObjectUri, TensorUri, below

MAX_URIS_BYTES = 640
"""What all output URIs may take together, so that they fit in one transaction."""
MAX_REQUESTER_LENGTH = 44

Parts = tuple[bytes | memoryview, ...]
Tensor = tuple[TensorSpec, memoryview]
"""A tensor and its bytes, row by row, little-endian, exactly as long as the spec says."""


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """`objects` are to be stored, each once; `uris` are the TaskResult's, one per output or one for all."""

    objects: tuple[tuple[ObjectUri, Parts], ...]
    uris: tuple[str, ...]


def plan_outputs(prefix: ObjectUri, requester: Requester, key: TaskKey, tensors: Sequence[Tensor]) -> OutputPlan:
    """One object per output, or one object for all where their URIs would be too many or too long.

    The same tensors give the same plan. Hashes all bytes, about 1 GB/s: call it in a thread where they are many.
    """
    folder = below(prefix, requester, key.execution_id, key.task_id)
    # The length of a URI is known before its hash is.
    if len(tensors) > MAX_URIS or len(tensors) * len(str(below(folder, _name("0" * 64)))) > MAX_URIS_BYTES:
        uri, parts = hashed_object(folder, tensors)
        return OutputPlan(((uri, parts),), (str(TensorUri(uri, "*")),))
    objects = [hashed_object(folder, [tensor]) for tensor in tensors]
    return OutputPlan(tuple(dict(objects).items()), tuple(str(uri) for uri, _ in objects))


def requester_of_output(uri: ObjectUri) -> str:
    """Whose folder an output lies in, whatever prefix it was written below."""
    return uri.key.split("/")[-4]


def hashed_object(
    folder: ObjectUri, tensors: Sequence[Tensor], metadata: dict[str, str] | None = None
) -> tuple[ObjectUri, Parts]:
    """A safetensors object of tensors named `0`, `1`, … in `folder`, its own name the SHA-256 of its bytes."""
    for spec, view in tensors:
        if len(view) != spec.nbytes:
            raise ValueError(f"{spec} takes {spec.nbytes} bytes, not {len(view)}")
    # Wide dtypes first, so that every tensor begins at a multiple of its own width.
    order = sorted(range(len(tensors)), key=lambda index: -tensors[index][0].dtype.itemsize)
    header = encode_header([(str(index), tensors[index][0]) for index in order], metadata)
    parts: Parts = (header, *(tensors[index][1] for index in order))
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return below(folder, _name(digest.hexdigest())), parts


def check_output_prefix(prefix: ObjectUri) -> None:
    """Raises ConfigurationError if an output's URI below this prefix could be longer than a URI may be."""
    longest = below(prefix, "k" * MAX_REQUESTER_LENGTH, "e" * MAX_ID_LENGTH, "t" * MAX_ID_LENGTH, _name("0" * 64))
    excess = len(str(TensorUri(longest, "*"))) - MAX_URI_BYTES
    if excess > 0:
        raise ConfigurationError(
            f"SPLITUP_OUTPUT_PREFIX {prefix} is {excess} bytes too long: an output's URI below it could exceed "
            f"{MAX_URI_BYTES} bytes; use a shorter prefix"
        )


def _name(digest: str) -> str:
    return f"{digest}.safetensors"
