"""Whether there is a device for these tests."""

import warnings

import torch


def no_device() -> str | None:
    """Why nothing here can run; None where torch sees a CUDA device."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a driver that is too old torch warns, and then sees no device
        if torch.cuda.is_available():
            return None
    return f"torch {torch.__version__} sees no CUDA device here"
