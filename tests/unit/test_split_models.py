"""Models of the kinds that the allowlist is made for: exported, cut, run as a node runs them, compared."""

import pytest

from examples.models.compare import difference
from tests.unit.model_pieces import BY_NAME, module, pieces


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", BY_NAME)
def test_the_pieces_of_a_model_give_what_it_gives_at_every_shape(name: str) -> None:
    model = BY_NAME[name]
    assert len(pieces(name)) == model.pieces
    for shape in model.shapes:
        assert difference(module(name), pieces(name), model.inputs(shape)) <= model.tolerance, shape
