"""For each operator of the allowlist arguments that it takes, with tensors of a size that the test chooses."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from compute.graph.operator import Kind, Parameter
from compute.graph.operators import OPERATORS
from compute.graph.steps import TORCH_DTYPES
from compute.specs import DType
from tests.unit.graphs import Document, document, node, ref, tensor

TORCH_OPERATORS = [operator for operator in OPERATORS.values() if operator.name.startswith("aten.")]


@dataclass(frozen=True, slots=True)
class Sampled:
    """A tensor among the arguments. Those of `float32` take the dtype that a test tries, others keep theirs."""

    shape: tuple[int, ...]
    dtype: DType = DType.FLOAT32


def numbers(*shape: int) -> Sampled:
    return Sampled(shape)


def whole(*shape: int) -> Sampled:
    return Sampled(shape, DType.INT64)


def truths(*shape: int) -> Sampled:
    return Sampled(shape, DType.BOOL)


def sample(name: str, side: int = 4, dtype: DType = DType.FLOAT32) -> Document:
    """A graph of one node `n`, whose inputs are `t0`, `t1`, … and whose output is what it gives (the first of it)."""
    inputs: list[object] = []

    def placed(value: object) -> object:
        if isinstance(value, Sampled):
            given = dtype if value.dtype is DType.FLOAT32 else value.dtype
            inputs.append(tensor(f"t{len(inputs)}", list(value.shape), given))
            return ref(f"t{len(inputs) - 1}")
        return [placed(element) for element in value] if isinstance(value, list) else value

    arguments = {key: placed(value) for key, value in arguments_of(name, side).items()}
    several = OPERATORS[name].result == "Tensor[]"
    return document(inputs, [node("n", name, **arguments)], [ref("n", 0) if several else ref("n")])


def drawn_inputs(doc: Document, seed: int = 0) -> list[torch.Tensor]:
    """Tensors for the inputs of a document with fixed shapes; whole numbers are 0 to 3, indices of any sample."""
    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for given in doc["inputs"]:
        dtype = TORCH_DTYPES[DType(given["dtype"])]
        if dtype.is_floating_point:
            tensors.append(torch.randn(given["shape"], generator=generator).to(dtype))
        else:
            most = 2 if dtype is torch.bool else 4
            tensors.append(torch.randint(0, most, given["shape"], generator=generator).to(dtype))
    return tensors


def arguments_of(name: str, side: int) -> Mapping[str, object]:
    special = _special(side)
    if name in special:
        return special[name]
    parameters = OPERATORS[name].parameters.values()
    return {each.name: _plain(each, side) for each in parameters if each.required}


def _plain(parameter: Parameter, side: int) -> object:
    plain = {
        Kind.TENSOR: numbers(side, 2 * side),
        Kind.TENSORS: [numbers(side, 2 * side), numbers(side, 2 * side)],
        Kind.INT: 1,
        Kind.INTS: [1],
        Kind.SIZE: [side, 2 * side],
        Kind.NUMBER: 2,
    }
    return plain[parameter.kind]


def _special(side: int) -> Mapping[str, Mapping[str, object]]:
    square, image = numbers(side, side), numbers(2, 4, 2 * side, 2 * side)
    bits = {"self": whole(side, 2 * side), "other": whole(side, 2 * side)}
    heads = numbers(2, 4, side, 16)
    gates = [numbers(4 * side, 8), numbers(4 * side, side), numbers(4 * side), numbers(4 * side)]
    state = numbers(2, side, side)
    return {
        "aten.bitwise_not.default": {"self": whole(side, 2 * side)},
        "aten.bitwise_and.Tensor": bits,
        "aten.bitwise_or.Tensor": bits,
        "aten.bitwise_xor.Tensor": bits,
        "aten.clamp.default": {"self": numbers(side, 2 * side), "min": -1, "max": 1.5},
        "aten._to_copy.default": {"self": numbers(side, 2 * side), "dtype": "float16"},
        "aten.where.self": {"condition": truths(side, 1), "self": square, "other": square},
        "aten.masked_fill.Scalar": {"self": square, "mask": truths(side, side), "value": 2},
        "aten.layer_norm.default": {
            "input": numbers(side, 2 * side),
            "normalized_shape": [2 * side],
            "weight": numbers(2 * side),
            "bias": numbers(2 * side),
        },
        "aten.rms_norm.default": {
            "input": numbers(side, 2 * side),
            "normalized_shape": [2 * side],
            "weight": numbers(2 * side),
        },
        "aten.group_norm.default": {
            "input": image,
            "num_groups": 2,
            "weight": numbers(4),
            "bias": numbers(4),
        },
        "aten.batch_norm.default": {
            "input": image,
            "weight": numbers(4),
            "bias": numbers(4),
            "running_mean": numbers(4),
            "running_var": numbers(4),
            "eps": 1e-5,
        },
        "aten.reshape.default": {"self": square, "shape": [1, side * side]},
        "aten.transpose.int": {"self": square, "dim0": 0, "dim1": 1},
        "aten.permute.default": {"self": square, "dims": [1, 0]},
        "aten.squeeze.dim": {"self": numbers(side, 1), "dim": 1},
        "aten.squeeze.dims": {"self": numbers(side, 1), "dim": [1]},
        "aten.expand.default": {"self": numbers(1, side), "size": [side, side]},
        "aten.repeat.default": {"self": square, "repeats": [2, 3]},
        "aten.split_with_sizes.default": {"self": square, "split_sizes": [1, side - 1]},
        "aten.constant_pad_nd.default": {"self": square, "pad": [1, 2, 0, 1], "value": 3},
        "aten.embedding.default": {"weight": square, "indices": whole(side, side)},
        "aten.gather.default": {"self": square, "dim": 1, "index": whole(side, side)},
        "aten.index_select.default": {"self": square, "dim": 0, "index": whole(2 * side)},
        "aten.index.Tensor": {"self": square, "indices": [None, whole(2 * side)]},
        "aten.arange.default": {"end": side * side},
        "aten.arange.start": {"start": 1, "end": side * side},
        "aten.arange.start_step": {"start": 1, "end": side * side, "step": 2},
        "aten.matmul.default": {"self": numbers(2, 3, side, side), "other": numbers(3, side, side)},
        "aten.mm.default": {"self": square, "mat2": square},
        "aten.bmm.default": {"self": numbers(2, side, side), "mat2": numbers(2, side, side)},
        "aten.addmm.default": {"self": numbers(side), "mat1": square, "mat2": square},
        "aten.baddbmm.default": {
            "self": numbers(1, side, side),
            "batch1": numbers(2, side, side),
            "batch2": numbers(2, side, side),
        },
        "aten.linear.default": {"input": numbers(2, side, side), "weight": square, "bias": numbers(side)},
        "aten.scaled_dot_product_attention.default": {
            "query": heads,
            "key": heads,
            "value": heads,
            "attn_mask": truths(2, 1, side, side),
        },
        "aten.convolution.default": {
            "input": image,
            "weight": numbers(6, 2, 3, 3),
            "bias": numbers(6),
            "stride": [2, 1],
            "padding": [1, 1],
            "dilation": [1, 2],
            "transposed": False,
            "output_padding": [0, 0],
            "groups": 2,
        },
        "aten.max_pool2d.default": {"self": image, "kernel_size": [3, 2], "stride": [2], "padding": [1]},
        "aten.avg_pool2d.default": {"self": image, "kernel_size": [3], "stride": [1, 2], "padding": [1, 0]},
        "aten.adaptive_avg_pool2d.default": {"self": image, "output_size": [3, side]},
        "aten.upsample_nearest2d.vec": {"input": image, "output_size": None, "scale_factors": [2.0, 1.5]},
        "aten.upsample_bilinear2d.vec": {
            "input": image,
            "output_size": [side, 3 * side],
            "align_corners": False,
            "scale_factors": None,
        },
        "aten.lstm.input": {
            "input": numbers(side, 3, 8),
            "hx": [numbers(2, side, side), state],
            "params": gates * 2,
            "has_biases": True,
            "num_layers": 1,
            "bidirectional": True,
            "batch_first": True,
        },
    }
