"""What a tensor is before it has bytes: dtype and shape. No torch here."""

import math
from dataclasses import dataclass
from enum import StrEnum

MAX_ELEMENTS = 2**40 - 1
"""A tensor with 2^40 elements or more is refused at its header, before any memory is taken."""
MAX_DIMENSIONS = 64
"""What torch can hold."""


class DType(StrEnum):
    """The dtypes that a task may use, by torch's names."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    FLOAT16 = "float16"
    BFLOAT16 = "bfloat16"
    FLOAT8_E4M3FN = "float8_e4m3fn"
    FLOAT8_E5M2 = "float8_e5m2"
    INT64 = "int64"
    INT32 = "int32"
    INT16 = "int16"
    INT8 = "int8"
    UINT8 = "uint8"
    BOOL = "bool"

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return _FORMAT[self][1]

    @property
    def safetensors_name(self) -> str:
        return _FORMAT[self][0]


_FORMAT = {
    DType.FLOAT64: ("F64", 8),
    DType.FLOAT32: ("F32", 4),
    DType.FLOAT16: ("F16", 2),
    DType.BFLOAT16: ("BF16", 2),
    DType.FLOAT8_E4M3FN: ("F8_E4M3", 1),
    DType.FLOAT8_E5M2: ("F8_E5M2", 1),
    DType.INT64: ("I64", 8),
    DType.INT32: ("I32", 4),
    DType.INT16: ("I16", 2),
    DType.INT8: ("I8", 1),
    DType.UINT8: ("U8", 1),
    DType.BOOL: ("BOOL", 1),
}

DTYPE_BY_SAFETENSORS_NAME = {dtype.safetensors_name: dtype for dtype in DType}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    dtype: DType
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.elements * self.dtype.itemsize

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"
