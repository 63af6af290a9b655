import pytest
import torch
from torch import nn
from torch.export import Dim

from compute.graph.document import parse_graph
from requester.split import Piece, split_model
from shared.errors import CannotSplit, OperatorNotAllowed
from tests.pieces import run_pieces

ROWS = Dim("rows", min=1, max=1000)


@pytest.fixture(autouse=True)
def same_numbers_in_each_run() -> None:
    torch.manual_seed(0)


def check(module: nn.Module, pieces: list[Piece], **inputs: torch.Tensor) -> None:
    """The pieces chained give what the module gives."""
    with torch.inference_mode():
        expected = module(**inputs)
    expected = expected if isinstance(expected, tuple) else (expected,)
    given = run_pieces(pieces, inputs)
    assert len(given) == len(expected)
    for one, other in zip(given, expected, strict=True):
        assert one.dtype == other.dtype
        torch.testing.assert_close(one, other, rtol=0, atol=1e-5)


class Mlp(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(8, 16), nn.Linear(16, 16), nn.Linear(16, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.drop(torch.relu(self.first(x)))
        return self.third(torch.relu(self.second(hidden)))


def test_a_small_network_is_cut_after_modules_and_keeps_its_dynamic_dimension() -> None:
    module = Mlp().eval()
    pieces = split_model(module, (torch.zeros(4, 8),), ({0: ROWS},), cut_points=["first", "second"])
    assert [piece.activations for piece in pieces] == [("x",), pieces[0].outputs, pieces[1].outputs]
    assert [list(piece.weights) for piece in pieces] == [
        ["first.weight", "first.bias"],
        ["second.weight", "second.bias"],
        ["third.weight", "third.bias"],
    ]
    assert pieces[1].graph.inputs[0].shape == ("rows", 16)
    for rows in (1, 7, 100):
        check(module, pieces, x=torch.randn(rows, 8))


class Tangled(nn.Module):
    """What a cut has to carry: inputs used late, values that skip a piece, tied weights, sizes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.c.weight = self.a.weight
        self.register_buffer("scale", torch.tensor(2.0), persistent=False)

    def forward(self, x: torch.Tensor, shift: torch.Tensor) -> tuple[torch.Tensor, ...]:
        early = self.a(x)
        low, high = early.chunk(2, dim=-1)
        middle = self.b(torch.cat((high, low), dim=-1)).reshape(x.shape[0] * 3, 2)
        late = self.c(middle.reshape(x.shape[0], 6) * self.scale)
        ramp = torch.arange(x.shape[0] * 2, dtype=x.dtype)[x.shape[0] :]
        values, places = (late + ramp.unsqueeze(1) + shift + low.repeat(1, 2)).topk(2, dim=-1)
        return values, places, early, x


@pytest.mark.parametrize("pieces", [1, 2, 3, 6])
def test_values_that_skip_pieces_inputs_used_late_tied_weights_and_sizes_all_arrive(pieces: int) -> None:
    module = Tangled().eval()
    examples = (torch.zeros(4, 6), torch.zeros(6))
    cut = split_model(module, examples, ({0: ROWS}, None), pieces=pieces)
    assert len(cut) == pieces
    for rows in (1, 5):
        check(module, cut, x=torch.randn(rows, 6), shift=torch.randn(6))


class EncoderLike(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 32)
        self.norm = nn.LayerNorm(32)
        self.attend = nn.MultiheadAttention(32, 4, batch_first=True)
        self.out = nn.Linear(32, 50)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.norm(self.embed(ids))
        x = x + self.attend(x, x, x, need_weights=False)[0]
        return self.out(nn.functional.gelu(x, approximate="tanh")).log_softmax(-1)


def test_attention_embedding_and_norms_are_within_the_allowlist() -> None:
    module = EncoderLike().eval()
    pieces = split_model(
        module, (torch.zeros(2, 5, dtype=torch.int64),), ({0: ROWS, 1: Dim("words", max=99)},), pieces=3
    )
    for shape in ((1, 3), (4, 9)):
        check(module, pieces, ids=torch.randint(0, 50, shape))


def test_what_torch_can_decompose_is_decomposed_to_the_allowlist() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.mse_loss(torch.addcmul(x, x, x), torch.lerp(x, x * 2, 0.25), reduction="none")

    module = Odd()
    check(module, split_model(module, (torch.zeros(3, 3),)), x=torch.rand(3, 3))


def test_an_operator_that_stays_outside_is_named() -> None:
    class Sorts(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.linalg.svd(x)[1]

    with pytest.raises(
        OperatorNotAllowed, match=r"operator aten\._?linalg_svd\.\w+ of node \w+ is not in the allowlist"
    ):
        split_model(Sorts(), (torch.eye(3),))


def test_random_numbers_are_not_within_a_pure_function() -> None:
    class Noise(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.rand_like(x)

    with pytest.raises(OperatorNotAllowed, match="rand"):
        split_model(Noise(), (torch.zeros(3),))


def test_a_model_that_writes_to_its_buffers_is_refused_with_advice() -> None:
    class Counts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls.add_(1)
            return x + self.calls

    with pytest.raises(CannotSplit, match=r"the model writes to calls; call eval\(\) first"):
        split_model(Counts(), (torch.zeros(3),))


def test_a_cut_at_no_module_lists_those_there_are() -> None:
    with pytest.raises(CannotSplit, match=r"no node stands in a module 'fourth'; there are .*first, sec"):
        split_model(Mlp().eval(), (torch.zeros(4, 8),), cut_points=["fourth"])


@pytest.mark.parametrize("cut_points", [["second", "first"], ["third"], ["first", "first"]])
def test_cuts_out_of_order_or_at_the_end_are_refused(cut_points: list[str]) -> None:
    with pytest.raises(CannotSplit, match="leave a piece without nodes, or are not in order"):
        split_model(Mlp().eval(), (torch.zeros(4, 8),), cut_points=cut_points)


@pytest.mark.parametrize("pieces", [0, 1000])
def test_an_impossible_number_of_pieces_is_refused(pieces: int) -> None:
    with pytest.raises(CannotSplit, match=f"{pieces} pieces of a graph with"):
        split_model(Mlp().eval(), (torch.zeros(4, 8),), pieces=pieces)


def test_a_cut_that_too_much_crosses_is_refused_with_what_crosses() -> None:
    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.many = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))
            self.gather = nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.gather(torch.stack([each(x) for each in self.many]).sum(0))

    with pytest.raises(CannotSplit, match="a piece would take 10 URIs, at most 8 are allowed; it takes linear"):
        split_model(Wide().eval(), (torch.zeros(3, 2),), cut_points=["many.8"])


def test_a_piece_is_what_its_package_says() -> None:
    (piece,) = split_model(Mlp().eval(), (torch.zeros(4, 8),))
    assert parse_graph(piece.package, max_bytes=1 << 20, max_nodes=100) == piece.graph
    for given in piece.graph.inputs[1:]:
        assert given.is_weights
        assert given.shape == tuple(piece.weights[given.name].shape)
