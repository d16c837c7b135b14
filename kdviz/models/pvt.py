"""PVT-Tiny: a pyramid of four stages of transformer blocks whose keys and values are seen at lower resolution."""

from typing import cast

import torch
import torch.fx
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.transformer import Block, attention, check_side, drop_rates, start_token, start_weights

torch.fx.wrap("check_side")

SIDE = 224
WIDTHS, HEADS, EXPANSIONS = (64, 128, 320, 512), (1, 2, 5, 8), (8, 8, 4, 4)
DEPTHS, REDUCTIONS = (2, 2, 2, 2), (8, 4, 2, 1)


class ReducedAttention(nn.Module):
    """Self-attention whose keys and values come from a map that is `reduction` times smaller on each side."""

    def __init__(self, width: int, heads: int, reduction: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width)
        self.kv = nn.Linear(width, 2 * width)
        self.proj = nn.Linear(width, width)
        if reduction > 1:
            self.sr = nn.Conv2d(width, width, reduction, reduction)
            self.norm = nn.LayerNorm(width)
        self.reduction = reduction

    def forward(self, tokens: Tensor, height: int, width: int) -> Tensor:
        seen = tokens
        if self.reduction > 1:
            maps = tokens.transpose(1, 2).unflatten(2, (height, width))
            seen = self.norm(self.sr(maps).flatten(2).transpose(1, 2))
        key, value = self.kv(seen).chunk(2, -1)
        return self.proj(attention(self.q(tokens), key, value, self.heads))


class PatchEmbed(nn.Module):
    """Patches of a map as tokens [n, t, width], normalised."""

    def __init__(self, width_in: int, width: int, patch: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(width_in, width, patch, patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, maps: Tensor) -> tuple[Tensor, int, int]:
        patches = self.proj(maps)
        return self.norm(patches.flatten(2).transpose(1, 2)), patches.shape[2], patches.shape[3]


class PVTTiny(nn.Module):
    """Four stages at 1/4, 1/8, 1/16 and 1/32 of the side; a class token joins in the last.

    Args:
        classes: number of classes.
        drop_path: of the last block; the others rise to it in equal steps from 0.

    Source: Wang et al. 2021 (arXiv 2102.12122), table 1, and the tensor names of its published code.
    """

    def __init__(self, classes: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        rates = iter(drop_rates(drop_path, sum(DEPTHS)))
        width_in, side = 3, SIDE
        for i, (width, depth) in enumerate(zip(WIDTHS, DEPTHS, strict=True)):
            patch = 2 if i else 4
            side //= patch
            tokens = side**2 + (i == len(WIDTHS) - 1)
            setattr(self, f"patch_embed{i + 1}", PatchEmbed(width_in, width, patch))
            setattr(self, f"pos_embed{i + 1}", nn.Parameter(torch.zeros(1, tokens, width)))
            blocks = (
                Block(
                    width,
                    ReducedAttention(width, HEADS[i], REDUCTIONS[i]),
                    EXPANSIONS[i] * width,
                    drop_path=next(rates),
                    eps=1e-6,
                )
                for _ in range(depth)
            )
            setattr(self, f"block{i + 1}", nn.ModuleList(blocks))
            width_in = width
        self.norm = nn.LayerNorm(WIDTHS[-1], eps=1e-6)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTHS[-1]))
        self.head = nn.Linear(WIDTHS[-1], classes)
        start_weights(self)
        for token in (self.cls_token, *(getattr(self, f"pos_embed{i}") for i in range(1, 5))):
            start_token(token)

    def no_weight_decay(self) -> set[str]:
        """Parameters that AdamW leaves without decay, as the authors do."""
        return {"cls_token"}

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, 224, 224]`; of the features only `pooled`, the class token `[n, 512]`."""
        check_side("pvt_tiny", images, SIDE)
        maps, tokens = images, images
        for i in range(1, 5):
            tokens, height, width = getattr(self, f"patch_embed{i}")(maps)
            if i == 4:
                tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], 1)
            tokens = tokens + getattr(self, f"pos_embed{i}")
            for block in cast(nn.ModuleList, getattr(self, f"block{i}")):
                tokens = block(tokens, height, width)
            if i < 4:
                maps = tokens.transpose(1, 2).unflatten(2, (height, width))
        pooled = self.norm(tokens)[:, 0]
        logits = self.head(pooled)
        return Outputs(logits, (), pooled) if features else Outputs(logits)


NETS = {"pvt_tiny": PVTTiny}
