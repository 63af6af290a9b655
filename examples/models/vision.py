"""Models that read images: a ViT, a ResNet, and a U-Net that gives an image. Small, with random weights."""

import torch
import transformers
from torch import nn
from torch.export import Dim

from examples.models.model import BATCH, Model, Shape, drawn


class LastHiddenState(nn.Module):
    """Pixels or a spectrogram, as its transformer takes them, to hidden states [batch, patches, hidden]."""

    def __init__(self, transformer: nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, signal: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = self.transformer(signal).last_hidden_state
        return hidden


class Residual(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, taken: int, given: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(taken, given, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(given)
        self.second = nn.Conv2d(given, given, 3, 1, 1, bias=False)
        self.second_norm = nn.BatchNorm2d(given)
        self.shortcut = nn.Sequential(nn.Conv2d(taken, given, 1, stride, bias=False), nn.BatchNorm2d(given))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first_norm(self.first(image)))
        return torch.relu(self.second_norm(self.second(hidden)) + self.shortcut(image))


def resnet() -> nn.Module:
    module = nn.Sequential(
        nn.Conv2d(3, 16, 7, 2, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, 2, 1),
        Residual(16, 16, 1),
        Residual(16, 32, 2),
        Residual(32, 64, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    )
    for each in module.modules():
        if isinstance(each, nn.BatchNorm2d):  # as after training: not the identity
            nn.init.normal_(each.running_mean, std=0.1)  # type: ignore[arg-type] # it tracks
            nn.init.uniform_(each.running_var, 0.5, 2.0)  # type: ignore[arg-type] # it tracks
    return module


class Normed(nn.Module):
    def __init__(self, taken: int, given: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, taken)
        self.convolution = nn.Conv2d(taken, given, 3, padding=1)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        given: torch.Tensor = self.convolution(nn.functional.silu(self.norm(image)))
        return given


class UNet(nn.Module):
    """float32 [batch, 3, height, width] to the same shape; height and width are multiples of 4."""

    def __init__(self) -> None:
        super().__init__()
        self.entry = nn.Conv2d(3, 8, 3, padding=1)
        self.outer = Normed(8, 8)
        self.shrink = nn.Conv2d(8, 16, 3, 2, 1)
        self.inner = Normed(16, 16)
        self.halve = nn.AvgPool2d(2)
        self.middle = Normed(16, 16)
        self.grow = nn.Upsample(scale_factor=2, mode="nearest")
        self.inner_back = Normed(32, 8)
        self.widen = nn.ConvTranspose2d(8, 8, 2, 2)
        self.outer_back = Normed(16, 8)
        self.exit = nn.Conv2d(8, 12, 1)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        outer = self.outer(self.entry(image))
        inner = self.inner(self.shrink(outer))
        middle = self.middle(self.halve(inner))
        back = self.inner_back(torch.cat((self.grow(middle), inner), dim=1))
        back = self.outer_back(torch.cat((self.widen(back), outer), dim=1))
        large = self.shuffle(self.exit(back))
        return nn.functional.interpolate(large, size=image.shape[2:], mode="bilinear", align_corners=False)


def _image(shape: Shape) -> tuple[torch.Tensor, ...]:
    batch, height, width = shape
    return (drawn((batch, 3, height, width)),)


VIT = Model(
    name="ViT",
    build=lambda: LastHiddenState(
        transformers.ViTModel(
            transformers.ViTConfig(
                hidden_size=64,
                num_hidden_layers=2,
                num_attention_heads=4,
                intermediate_size=128,
                image_size=32,
                patch_size=8,
            ),
            add_pooling_layer=False,
        )
    ),
    inputs=lambda shape: _image((*shape, 32, 32)),
    dimensions="batch",
    dynamic_shapes=({0: BATCH},),
    shapes=((2,), (1,), (5,)),
)
RESNET = Model(
    name="ResNet",
    build=resnet,
    inputs=_image,
    dimensions="batch, height, width",
    dynamic_shapes=({0: BATCH, 2: Dim("height", min=32, max=512), 3: Dim("width", min=32, max=512)},),
    shapes=((2, 64, 64), (1, 32, 32), (3, 97, 50)),
)
UNET = Model(
    name="U-Net",
    build=UNet,
    inputs=_image,
    dimensions="batch, height, width",
    dynamic_shapes=(
        {0: BATCH, 2: 4 * Dim("quarter_height", min=2, max=64), 3: 4 * Dim("quarter_width", min=2, max=64)},
    ),
    shapes=((2, 32, 32), (1, 8, 8), (3, 44, 20)),
    pieces=2,
)
