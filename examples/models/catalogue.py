"""The models whose pieces are known to give what the unsplit model gives."""

from examples.models.language import BERT, LLAMA, LLAMA_BFLOAT16, QWEN2, QWEN3
from examples.models.narrow import NARROW
from examples.models.sound import LSTM, WHISPER
from examples.models.vision import RESNET, UNET, VIT

MODELS = (BERT, LLAMA, LLAMA_BFLOAT16, QWEN2, QWEN3, VIT, WHISPER, RESNET, UNET, LSTM, NARROW)
