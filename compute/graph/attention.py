"""What is refused of attention before torch is asked."""

import torch

from compute.graph.requirements import Given, require, require_numbers, tensor


def check_attention(given: Given) -> None:
    """Queries, keys and values of the same batch: the cost counts the scores of the queries' batch alone.

    Raises GraphInvalid.
    """
    query, key, value = (tensor(given, name) for name in ("query", "key", "value"))
    for each in (query, key, value):
        require_numbers(each)
        require(each.dim() == query.dim() >= 2, "query, key and value differ in their number of dimensions")
        require(each.dtype == query.dtype, "query, key and value have different dtypes")
    require(query.shape[-1] == key.shape[-1], "query and key differ in their last length")
    require(key.shape[-2] == value.shape[-2], "key and value differ in number")
    require(key.shape[:-2] == value.shape[:-2], "key and value have different batches")
    if given.get("enable_gqa"):
        require(query.dim() >= 3, "heads that share keys need a dimension of heads")
        require(query.shape[:-3] == key.shape[:-3], "query and key have different batches")
        require(
            query.shape[-3] % key.shape[-3] == 0, "the heads of the query do not share those of the key evenly"
        )
    else:
        require(query.shape[:-2] == key.shape[:-2], "query and key have different batches")
    mask = given.get("attn_mask")
    if isinstance(mask, torch.Tensor):
        require(not given.get("is_causal"), "either a mask or is_causal is wanted")
        require(mask.dtype in (torch.bool, query.dtype), "the mask is neither bool nor of the query's dtype")
        _check_mask(mask.shape, (*query.shape[:-1], key.shape[-2]))


def _check_mask(mask: torch.Size, scores: tuple[int, ...]) -> None:
    """As torch broadcasts: from the last dimension on, each length is the scores' or 1."""
    fits = len(mask) <= len(scores) and all(
        length in (1, wanted) for length, wanted in zip(reversed(mask), reversed(scores), strict=False)
    )
    require(fits, f"a mask of {list(mask)} does not fit scores of {list(scores)}")
