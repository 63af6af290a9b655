"""How a process of a CUDA device is set up and asked. No device is here: torch's answers are a test's."""

from types import SimpleNamespace

import pytest
import torch

from compute.worker import device as worker_device
from compute.worker import launcher
from compute.worker.device import choose_device, free_bytes, release_memory, settle, use_in_this_thread
from compute.worker.program import tells_of_no_memory

CPU, SECOND = torch.device("cpu"), torch.device("cuda", 1)
TOTAL = 80 << 30


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """What was asked of torch.cuda, in order."""
    asked: list[tuple[object, ...]] = []
    cuda = torch.cuda
    monkeypatch.setattr(cuda, "is_available", lambda: True)
    monkeypatch.setattr(cuda, "device_count", lambda: 2)
    monkeypatch.setattr(cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=TOTAL))
    monkeypatch.setattr(cuda, "set_per_process_memory_fraction", lambda *given: asked.append(("fraction", *given)))
    monkeypatch.setattr(cuda, "set_device", lambda *given: asked.append(("current", *given)))
    monkeypatch.setattr(cuda, "mem_get_info", lambda *given: (asked.append(("free", *given)), (7, TOTAL))[1])
    monkeypatch.setattr(cuda, "empty_cache", lambda: asked.append(("empty",)))
    return asked


@pytest.fixture
def as_torch_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `settle` changes is changed back."""
    for name in ("benchmark", "deterministic", "allow_tf32"):
        monkeypatch.setattr(torch.backends.cudnn, name, not name.startswith("det"))
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.usefixtures("as_torch_begins")
def test_a_device_computes_with_all_bits_the_same_each_time_and_within_a_limit_of_memory(cuda) -> None:
    settle(SECOND)
    assert torch.get_float32_matmul_precision() == "highest"
    assert torch.backends.cudnn.conv.fp32_precision != "tf32"
    assert torch.backends.cudnn.rnn.fp32_precision != "tf32"
    assert (torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic) == (False, True)
    ((what, fraction, device),) = cuda
    assert (what, device) == ("fraction", SECOND)
    assert fraction * TOTAL == pytest.approx(TOTAL - worker_device.KEPT_FROM_TENSORS_BYTES)


def test_a_device_without_a_number_is_the_first_one(cuda) -> None:
    assert choose_device("cuda") == torch.device("cuda", 0)
    assert choose_device("cuda:1") == SECOND
    assert choose_device("cpu") == CPU


def test_each_thread_computes_on_the_workers_device(cuda) -> None:
    use_in_this_thread(SECOND)
    assert cuda == [("current", SECOND)]


def test_on_the_host_nothing_of_a_device_is_asked(cuda) -> None:
    settle(CPU)
    use_in_this_thread(CPU)
    release_memory(CPU)
    assert free_bytes(CPU) is None
    assert cuda == []


def test_a_device_that_cannot_give_memory_back_is_no_reason_to_leave_a_task_unanswered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "empty_cache", broken)
    release_memory(SECOND)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (torch.AcceleratorError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (MemoryError(), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), False),
    ],
)
def test_want_of_memory_is_known_whoever_tells_of_it(error: Exception, expected: bool) -> None:
    assert tells_of_no_memory(error) == expected


def test_cublas_has_memory_of_a_fixed_size_unless_the_operator_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    assert launcher._environment()["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    assert launcher._environment()["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"
