"""Models that read a signal over time: Whisper's encoder, and an LSTM over words. Small, with random weights."""

import torch
import transformers
from torch import nn
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from examples.models.model import BATCH, LENGTH, Model, drawn, words
from examples.models.vision import LastHiddenState

MEL_BINS, FRAMES = 8, 40
VOCABULARY = 50


class Tagger(nn.Module):
    """Words, int64 [batch, length], to scores [batch, length, 5], by an LSTM of two layers that reads both ways."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 16)
        self.recur = nn.LSTM(16, 24, 2, batch_first=True, bidirectional=True)
        self.score = nn.Linear(48, 5)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.score(self.recur(self.embed(ids))[0])
        return scores


WHISPER = Model(
    name="Whisper's encoder",
    build=lambda: LastHiddenState(
        WhisperEncoder(
            transformers.WhisperConfig(
                d_model=64,
                encoder_layers=2,
                encoder_attention_heads=4,
                encoder_ffn_dim=128,
                num_mel_bins=MEL_BINS,
                max_source_positions=FRAMES // 2,
            )
        )
    ),
    inputs=lambda shape: (drawn((*shape, MEL_BINS, FRAMES)),),
    dimensions="batch",
    dynamic_shapes=({0: BATCH},),
    shapes=((2,), (1,), (5,)),
)
LSTM = Model(
    name="LSTM",
    build=Tagger,
    inputs=lambda shape: (words(shape, VOCABULARY),),
    dimensions="batch, length",
    dynamic_shapes=({0: BATCH, 1: LENGTH},),
    shapes=((2, 16), (1, 2), (3, 7), (2, 130)),
    pieces=2,
)
