"""Whatever a mutant of a valid graph holds, it is refused, or it runs: within its limits, to its inferred shapes."""

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.unit import model_pieces
from tests.unit.samples import TORCH_OPERATORS, sample

MUTANTS = 100_000 if os.environ.get("FULL") == "1" else 2_000
DTYPES = ("float32", "float32", "bfloat16", "float16", "int64", "bool")


@pytest.mark.timeout(7_200 if MUTANTS > 2_000 else 600)
def test_mutants_of_operators_and_models_are_refused_or_run_within_their_limits(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    calls = [json.dumps(sample(each.name, dtype=dtype)) for each in TORCH_OPERATORS for dtype in DTYPES]
    models = [piece.package.decode() for name in model_pieces.BY_NAME for piece in model_pieces.pieces(name)]
    # As often the one as the other: a whole model's piece is what a stranger would begin with.
    documents.write_text("\n".join([*calls, *models * (len(calls) // len(models))]))
    ends = Counter(run(documents, 0, MUTANTS))
    assert ends["ran"] > MUTANTS / 20, ends
    assert all(ends[reason] for reason in ("GraphInvalid", "TooLarge", "OperatorNotAllowed")), ends


def run(documents: Path, begin: int, end: int) -> dict[str, int]:
    """The ends of the mutants. Fails with the seed that crashed or hung torch."""
    command = [sys.executable, "-m", "tests.unit.mutant_runs", str(documents), str(begin), str(end)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    *seeds, last = ended.stdout.splitlines() or [""]
    if ended.returncode:
        pytest.fail(f"ended with {ended.returncode} at seed {last}: {ended.stderr[-2000:]}")
    assert len(seeds) == end - begin
    counted: dict[str, int] = json.loads(last)
    return counted
