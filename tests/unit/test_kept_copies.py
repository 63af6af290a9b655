"""What a worker keeps on its device between runs, with copies on the host that a test counts."""

import threading
import weakref
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from compute.worker.kept import KeptCopies

PATIENCE_S = 60


class Copier:
    """Clones; waits where the test says so, and has no memory as often as it says so."""

    def __init__(self) -> None:
        self.count = 0
        self.released_before: list[int] = []
        self.failures = 0
        self.begun = threading.Event()
        self.open = threading.Event()
        self.open.set()

    def released(self) -> None:
        self.released_before.append(self.count)

    def __call__(self, tensors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        self.count += 1
        self.begun.set()
        assert self.open.wait(PATIENCE_S)
        if self.failures:
            self.failures -= 1
            raise MemoryError
        return [tensor.clone() for tensor in tensors]


@pytest.fixture
def copier() -> Copier:
    return Copier()


ONES, TWOS = [torch.ones(3)], [torch.full((3,), 2.0), torch.zeros(0)]


def test_what_is_kept_is_copied_once_and_used_whatever_is_given(copier: Copier) -> None:
    kept = KeptCopies(copier, copier.released)
    first = kept.of(7, TWOS)
    assert [value.tolist() for value in first] == [[2, 2, 2], []]
    assert first[0].data_ptr() != TWOS[0].data_ptr()
    assert kept.of(7, ONES) is first
    assert kept.of(8, ONES)[0].tolist() == [1, 1, 1]
    assert copier.count == 2
    assert copier.released_before == [0, 1]


def test_what_is_not_to_be_kept_is_copied_each_time(copier: Copier) -> None:
    kept = KeptCopies(copier, copier.released)
    assert kept.of(None, ONES)[0].data_ptr() != kept.of(None, ONES)[0].data_ptr()
    assert copier.count == 2


def test_what_is_dropped_is_let_go_and_copied_anew(copier: Copier) -> None:
    kept = KeptCopies(copier, copier.released)
    gone = weakref.ref(kept.of(7, ONES)[0])
    stays = weakref.ref(kept.of(8, ONES)[0])
    kept.drop([7, 99])
    assert gone() is None
    assert stays() is not None
    kept.of(7, ONES)
    assert copier.count == 3


def test_runs_that_want_one_number_at_once_have_it_copied_once(copier: Copier) -> None:
    kept = KeptCopies(copier, copier.released)
    copier.open.clear()
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(kept.of, 7, ONES) for _ in range(4)]
        assert copier.begun.wait(PATIENCE_S)
        other = threads.submit(kept.drop, [8])  # nobody waits for a copy but those that want it
        copier.open.set()
        other.result(PATIENCE_S)
        first, *rest = [future.result(PATIENCE_S) for future in asked]
    assert all(tensors is first for tensors in rest)
    assert copier.count == 1


def test_a_copy_that_fails_leaves_nothing_and_who_waited_for_it_tries_again(copier: Copier) -> None:
    kept = KeptCopies(copier, copier.released)
    copier.failures = 1
    copier.open.clear()
    with ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(kept.of, 7, ONES) for _ in range(2)]
        copier.open.set()
        ends = [future.exception(PATIENCE_S) for future in asked]
    assert [type(end) for end in ends if end is not None] == [MemoryError]
    assert copier.count == 2
    assert kept.of(7, TWOS)[0].tolist() == [1, 1, 1]
