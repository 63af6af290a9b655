"""Each model of the catalogue and its pieces, made once for all tests of a run: exporting takes seconds."""

from functools import cache

import torch

from examples.models.catalogue import MODELS
from requester.split import Piece

BY_NAME = {model.name: model for model in MODELS}


@cache
def module(name: str) -> torch.nn.Module:
    return BY_NAME[name].module()


@cache
def pieces(name: str) -> list[Piece]:
    return BY_NAME[name].split(module(name))
