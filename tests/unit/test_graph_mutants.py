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
from shared.errors import TaskError
from tests.unit.minilm_pieces import pieces
from tests.unit.mutants import mutant

MUTANTS = 100_000 if os.environ.get("FULL") == "1" else 2_000
LENGTHS = {"batch": 2, "sequence": 9}


@pytest.mark.timeout(3_600 if MUTANTS > 2_000 else 300)
def test_mutants_of_a_real_graph_end_in_an_answer_or_a_task_error() -> None:
    document = json.loads(pieces()[0].package)
    specs = [
        TensorSpec(DType(given["dtype"]), tuple(LENGTHS.get(length, length) for length in given["shape"]))
        for given in document["inputs"]
    ]
    ends: Counter[str] = Counter()
    for seed in range(MUTANTS):
        package = mutant(document, random.Random(seed))
        try:
            graph = parse_graph(package, max_bytes=1 << 20, max_nodes=1000)
            ends["read"] += 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of odd arguments, which is its answer to them
                inference = infer(graph, specs, max_bytes=1 << 30)
            assert compute_units(graph, inference) >= 1
            ends["answered"] += 1
        except TaskError as error:
            assert len(str(error)) < 1000
            ends[error.reason] += 1
    # All ways are taken: the mutants are neither all nonsense nor all harmless.
    assert ends["answered"] > MUTANTS / 50
    assert ends["read"] > MUTANTS / 4
    assert all(ends[reason] for reason in ("GraphInvalid", "TooLarge", "InputMismatch", "OperatorNotAllowed")), (
        ends
    )
