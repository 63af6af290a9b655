"""Whatever a package holds, reading, inferring and costing it end in a TaskError or in an answer."""

import json
import os
import random
import warnings
from collections import Counter

import pytest

from compute.graph.cost import compute_units
from compute.graph.document import parse_graph
from compute.graph.shapes import infer
from compute.specs import DType, TensorSpec
from examples.models.compare import model_inputs, specs_of
from shared.errors import TaskError
from tests.unit import minilm_pieces, model_pieces
from tests.unit.graphs import Document
from tests.unit.mutants import mutant

MUTANTS = 100_000 if os.environ.get("FULL") == "1" else 2_000
LENGTHS = {"batch": 2, "sequence": 9}
GIB = 1 << 30


def sentence_model() -> tuple[Document, list[TensorSpec]]:
    """The first piece of a model with real weights."""
    document = json.loads(minilm_pieces.pieces()[0].package)
    specs = [
        TensorSpec(DType(given["dtype"]), tuple(LENGTHS.get(length, length) for length in given["shape"]))
        for given in document["inputs"]
    ]
    return document, specs


def models() -> list[tuple[Document, list[TensorSpec]]]:
    """Each piece of each model of the catalogue, with inputs that fit it."""
    found = []
    for name, model in model_pieces.BY_NAME.items():
        pieces = model_pieces.pieces(name)
        known = dict(zip(model_inputs(pieces), specs_of(model.inputs(model.shapes[0])), strict=True))
        for piece in pieces:
            given = [*(known[each] for each in piece.activations), *specs_of(list(piece.weights.values()))]
            found.append((json.loads(piece.package), given))
            known |= dict(zip(piece.outputs, infer(piece.graph, given, max_bytes=GIB).outputs, strict=True))
    return found


@pytest.mark.timeout(7_200 if MUTANTS > 2_000 else 600)
def test_mutants_of_real_graphs_end_in_an_answer_or_a_task_error() -> None:
    originals = [sentence_model(), *models()]
    assert len(originals) > len(model_pieces.BY_NAME)
    ends: Counter[str] = Counter()
    answered: set[int] = set()
    for seed in range(MUTANTS):
        rng = random.Random(seed)
        place = rng.randrange(len(originals))
        document, specs = originals[place]
        package = mutant(document, rng)
        try:
            graph = parse_graph(package, max_bytes=1 << 20, max_nodes=1000)
            ends["read"] += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of odd arguments, which is its answer to them
                inference = infer(graph, specs, max_bytes=GIB)
            assert compute_units(graph, inference) >= 1
            ends["answered"] += 1
            answered.add(place)
        except TaskError as error:
            assert len(str(error)) < 1000
            ends[error.reason] += 1
    # All ways are taken: the mutants are neither all nonsense nor all harmless, of no model.
    assert ends["answered"] > MUTANTS / 50
    assert ends["read"] > MUTANTS / 4
    assert len(answered) == len(originals)
    assert all(ends[reason] for reason in ("GraphInvalid", "TooLarge", "InputMismatch", "OperatorNotAllowed")), (
        ends
    )
