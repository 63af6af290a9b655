import itertools

import pytest
import torch

from compute.graph.cost import compute_units
from compute.graph.document import parse_graph
from compute.graph.shapes import infer
from compute.graph.steps import SPEC_DTYPES
from compute.specs import TensorSpec
from requester.split import split_model
from tests.pieces import run_pieces
from tests.unit.minilm_pieces import minilm, model, pieces

SHAPES = [(1, 2), (1, 128), (3, 7), (8, 33), (2, 512)]


def tokens(batch: int, sequence: int) -> dict[str, torch.Tensor]:
    """Random words; the first sentence is padded after its half."""
    generator = torch.Generator().manual_seed(batch * 1000 + sequence)
    mask = torch.ones(batch, sequence, dtype=torch.int64)
    mask[0, sequence // 2 + 1 :] = 0
    return {"input_ids": torch.randint(0, 30_000, (batch, sequence), generator=generator), "attention_mask": mask}


def unsplit(inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.inference_mode():
        return model()(**inputs)


@pytest.mark.parametrize("shape", SHAPES)
def test_three_pieces_chained_give_what_the_unsplit_model_gives(shape: tuple[int, int]) -> None:
    inputs = tokens(*shape)
    (vectors,) = run_pieces(pieces(), inputs)
    assert vectors.shape == (shape[0], 384)
    assert (vectors - unsplit(inputs)).abs().max() <= 1e-5


@pytest.mark.parametrize("count", [1, 2, 5])
def test_so_do_pieces_cut_at_even_costs(count: int) -> None:
    cut = split_model(model(), minilm.EXAMPLE_INPUTS, minilm.DYNAMIC_SHAPES, pieces=count)
    assert len(cut) == count
    inputs = tokens(3, 17)
    (vectors,) = run_pieces(cut, inputs)
    assert (vectors - unsplit(inputs)).abs().max() <= 1e-5


def test_sentences_that_mean_the_same_lie_close() -> None:
    model()
    ids, mask = minilm.tokenize(["a cat sits on the mat", "a kitten rests on a rug", "shares fell on Monday"])
    (vectors,) = run_pieces(pieces(), {"input_ids": ids, "attention_mask": mask})
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.5 > 0.3 > likeness[0, 2]


def test_packages_are_small_and_differ_and_are_read_as_they_were_written() -> None:
    for piece in pieces():
        assert len(piece.package) < 32 << 10
        assert parse_graph(piece.package, max_bytes=1 << 20, max_nodes=20_000) == piece.graph
    assert len({piece.package_id for piece in pieces()}) == 3


def test_splitting_again_gives_the_same_packages() -> None:
    again = split_model(model(), minilm.EXAMPLE_INPUTS, minilm.DYNAMIC_SHAPES, cut_points=minilm.CUT_POINTS)
    assert [piece.package_id for piece in again] == [piece.package_id for piece in pieces()]


def test_inputs_are_activations_then_weights_and_each_activation_is_the_models_or_an_earlier_output() -> None:
    available = {"input_ids", "attention_mask"}
    for piece in pieces():
        names = [given.name for given in piece.graph.inputs]
        assert names == [*piece.activations, *piece.weights]
        assert [given.is_weights for given in piece.graph.inputs] == [name in piece.weights for name in names]
        assert set(piece.activations) <= available
        assert len(piece.activations) + 1 <= 8
        available |= set(piece.outputs)
    assert pieces()[0].activations == ("input_ids", "attention_mask")
    assert pieces()[2].activations[-1] == "attention_mask"


def test_dimensions_keep_the_authors_names() -> None:
    (hidden,) = [given for given in pieces()[1].graph.inputs if given.name == pieces()[0].outputs[-1]]
    assert hidden.shape == ("batch", "sequence", 384)


def test_every_weight_that_is_used_is_in_a_piece() -> None:
    held = {name for piece in pieces() for name in piece.weights}
    # The pooler's output is not used: sentences are pooled by their mean.
    wanted = {name for name, _ in model().named_parameters() if ".pooler." not in name}
    assert wanted <= held


def test_inferred_shapes_are_those_that_the_run_gives_and_costs_grow_with_them() -> None:
    units = []
    for shape in ((1, 8), (4, 64)):
        values = tokens(*shape)
        total = 0
        for piece in pieces():
            given = [*(values[name] for name in piece.activations), *piece.weights.values()]
            specs = [TensorSpec(SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) for tensor in given]
            inference = infer(piece.graph, specs, max_bytes=1 << 30)
            outputs = run_pieces([piece], values)
            for tensor, spec in zip(outputs, inference.outputs, strict=True):
                assert (SPEC_DTYPES[tensor.dtype], tuple(tensor.shape)) == (spec.dtype, spec.shape)
            values |= dict(zip(piece.outputs, outputs, strict=True))
            total += compute_units(piece.graph, inference)
        units.append(total)
    assert all(one < other for one, other in itertools.pairwise(units))
