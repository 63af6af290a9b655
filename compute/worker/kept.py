"""Device copies of inputs that outlive the run they were made for. The API process says which and until when."""

import threading
from collections.abc import Callable, Collection, Sequence

import torch

Tensors = Sequence[torch.Tensor]


class KeptCopies:
    """By the numbers that the API process gave; each is one input buffer's tensors. Threads may share it."""

    def __init__(self, copied: Callable[[Tensors], Tensors], release: Callable[[], None]) -> None:
        """`copied`: the same tensors on the device. `release` gives back what the allocator has free: a copy that stays
        in a part of a large block would keep all of it."""
        self._copied = copied
        self._release = release
        self._kept: dict[int, Tensors] = {}
        self._being_copied: set[int] = set()
        self._changed = threading.Condition()

    def of(self, number: int | None, given: Tensors) -> Tensors:
        """`given` on the device: what is kept under this number, whatever it was made of, else a copy, which is kept.

        None: a copy for the caller alone. Those that ask for one number at the same time have it copied once. A copy
        that fails raises what it raises and leaves nothing, and the next one that asks tries again.
        """
        if number is None:
            return self._copied(given)
        with self._changed:
            self._changed.wait_for(lambda: number not in self._being_copied)
            if number in self._kept:
                return self._kept[number]
            self._being_copied.add(number)
        try:
            self._release()
            copies = self._copied(given)
            with self._changed:
                self._kept[number] = copies
        finally:
            with self._changed:
                self._being_copied.discard(number)
                self._changed.notify_all()
        return copies

    def drop(self, numbers: Collection[int]) -> None:
        """A run that still computes from one goes on with it; unknown numbers are none."""
        with self._changed:
            for number in numbers:
                self._kept.pop(number, None)
