"""T2T-ViT-7: tokens made of overlapping patches by two Performer layers, then seven transformer blocks, for 224x224."""

import math
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.models.outputs import Outputs
from kdviz.models.transformer import Attention, Block, check_side, drop_rates, sinusoids, start_token, start_weights

torch.fx.wrap("check_side")

SIDE, TOKEN, WIDTH, DEPTH, HEADS = 224, 64, 256, 7, 4
DROPOUT = 0.1  # in the Performer layers, whatever the recipe says


@torch.fx.wrap
def kernel_attention(key: Tensor, query: Tensor, value: Tensor, directions: Tensor) -> Tensor:
    """Attention whose weights are phi(query) phi(key), phi(x) = exp(directions x - |x|^2 / 2) / sqrt(m).

    Args:
        key, query, value: `[n, t, c]`.
        directions: `[m, c]`.
    Returns: `[n, t, c]` in float32 at least, in which the exponentials do not overflow.
    """
    with _float32_at_least(value):
        full = torch.promote_types(value.dtype, torch.float32)
        keys, queries = _features(key.to(full), directions), _features(query.to(full), directions)
        weights = queries @ keys.sum(1, keepdim=True).transpose(1, 2)  # [n, t, 1]
        return queries @ (keys.transpose(1, 2) @ value.to(full)) / (weights + 1e-8)


def _features(tokens: Tensor, directions: Tensor) -> Tensor:
    half = tokens.square().sum(-1, keepdim=True) / 2
    return torch.exp(tokens @ directions.T - half) / math.sqrt(len(directions))  # [n, t, m]


def _float32_at_least(tensor: Tensor) -> AbstractContextManager:
    """Autocast switched off on the tensor's device, where it has one."""
    device = tensor.device.type
    return torch.autocast(device, enabled=False) if device in ("cpu", "cuda") else nullcontext()


class Performer(nn.Module):
    """Attention with one head whose softmax is approximated by positive random features, at a cost linear in tokens.

    Source: Choromanski et al. 2021 (arXiv 2009.14794), eq. 7; Yuan et al. 2021, "Token_performer" of their code, where
    the values, not the inputs, are added to the branch.
    """

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.kqv = nn.Linear(width_in, 3 * width)
        self.proj = nn.Linear(width, width)
        self.norm1 = nn.LayerNorm(width_in)
        self.norm2 = nn.LayerNorm(width)
        self.dp = nn.Dropout(DROPOUT)
        self.mlp = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.Dropout(DROPOUT))
        directions = torch.empty(width // 2, width)
        if not directions.is_meta:
            nn.init.orthogonal_(directions).mul_(math.sqrt(width // 2))
        self.w = nn.Parameter(directions, requires_grad=False)

    def forward(self, tokens: Tensor) -> Tensor:
        key, query, value = self.kqv(self.norm1(tokens)).chunk(3, -1)
        mixed = kernel_attention(key, query, value, self.w)
        value = value + self.dp(self.proj(mixed.type_as(value)))
        return value + self.mlp(self.norm2(value))


class TokensToToken(nn.Module):
    """Images [n, 3, 224, 224] as tokens [n, 196, width]: patches of 7x7, then twice 3x3 of the tokens' own map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.attention1 = Performer(3 * 7 * 7, TOKEN)
        self.attention2 = Performer(TOKEN * 3 * 3, TOKEN)
        self.project = nn.Linear(TOKEN * 3 * 3, width)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.attention1(F.unfold(images, 7, stride=4, padding=2).transpose(1, 2))
        side = SIDE // 4
        for attention in (self.attention2, self.project):
            maps = tokens.transpose(1, 2).unflatten(2, (side, side))
            tokens = attention(F.unfold(maps, 3, stride=2, padding=1).transpose(1, 2))
            side //= 2
        return tokens


class T2TViT(nn.Module):
    """The transformer over those tokens and a class token, with fixed sinusoidal positions.

    Args:
        classes: number of classes.
        drop_path: of the last block; the others rise to it in equal steps from 0.

    Source: Yuan et al. 2021 (arXiv 2101.11986), table 2, and the tensor names of its published code.
    """

    def __init__(self, classes: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.tokens_to_token = TokensToToken(WIDTH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.pos_embed = nn.Parameter(sinusoids((SIDE // 16) ** 2 + 1, WIDTH), requires_grad=False)
        self.blocks = nn.ModuleList(
            Block(WIDTH, Attention(WIDTH, HEADS, bias=False), 2 * WIDTH, drop_path=rate)
            for rate in drop_rates(drop_path, DEPTH)
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, classes)
        start_weights(self)
        start_token(self.cls_token)

    def no_weight_decay(self) -> set[str]:
        """Parameters that AdamW leaves without decay, as the authors do."""
        return {"cls_token"}

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs of images `[n, 3, 224, 224]`; of the features only `pooled`, the class token `[n, 256]`."""
        check_side("t2t_vit_7", images, SIDE)
        tokens = self.tokens_to_token(images)
        tokens = torch.cat([self.cls_token.expand(tokens.shape[0], -1, -1), tokens], 1) + self.pos_embed
        for block in self.blocks:
            tokens = block(tokens)
        pooled = self.norm(tokens)[:, 0]
        logits = self.head(pooled)
        return Outputs(logits, (), pooled) if features else Outputs(logits)


NETS = {"t2t_vit_7": T2TViT}
