"""Transformers that read words: encoders of the BERT kind, decoders of the Llama and Qwen kinds. Small, random."""

from dataclasses import replace

import torch
import transformers

from examples.models.model import BATCH, LENGTH, Model, Shape, words

VOCABULARY = 99
DIMENSIONS = {0: BATCH, 1: LENGTH}
SHAPES = ((2, 16), (1, 2), (3, 7), (2, 130))
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "max_position_embeddings": 512,
}
GROUPED = {**SMALL, "num_key_value_heads": 2}


class Encoder(torch.nn.Module):
    """(input_ids, attention_mask), int64 [batch, length], to hidden states [batch, length, hidden]."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        given = self.transformer(input_ids=input_ids, attention_mask=attention_mask)
        hidden: torch.Tensor = given.last_hidden_state
        return hidden


class Decoder(torch.nn.Module):
    """input_ids, int64 [batch, length], to the logits of each next word, [batch, length, vocabulary]."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.transformer(input_ids=input_ids, use_cache=False).logits
        return logits


def _padded(shape: Shape) -> tuple[torch.Tensor, ...]:
    """The first sequence is padded after its half."""
    mask = torch.ones(shape, dtype=torch.int64)
    mask[0, shape[1] // 2 + 1 :] = 0
    return words(shape, VOCABULARY), mask


def _plain(shape: Shape) -> tuple[torch.Tensor, ...]:
    return (words(shape, VOCABULARY),)


BERT = Model(
    name="BERT",
    build=lambda: Encoder(transformers.BertModel(transformers.BertConfig(**SMALL), add_pooling_layer=False)),
    inputs=_padded,
    dimensions="batch, length",
    dynamic_shapes=(DIMENSIONS, DIMENSIONS),
    shapes=SHAPES,
)
LLAMA = Model(
    name="Llama",
    build=lambda: Decoder(transformers.LlamaForCausalLM(transformers.LlamaConfig(**GROUPED))),
    inputs=_plain,
    dimensions="batch, length",
    dynamic_shapes=(DIMENSIONS,),
    shapes=SHAPES,
)
LLAMA_BFLOAT16 = replace(
    LLAMA,
    name="Llama in bfloat16",
    build=lambda: Decoder(
        transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**GROUPED, "num_hidden_layers": 1}))
    ).to(torch.bfloat16),
    pieces=2,
)
QWEN2 = replace(
    LLAMA,
    name="Qwen2",
    build=lambda: Decoder(transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**GROUPED))),
)
QWEN3 = replace(
    LLAMA,
    name="Qwen3",
    build=lambda: Decoder(transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**GROUPED, head_dim=16))),
)
