"""What the vision transformers share: attention, the two-layer perceptron, the residual block with drop-path."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdviz.base.check import require


def check_side(who: str, images: Tensor, side: int) -> None:
    """Refuse images of another size. To be wrapped (`torch.fx.wrap`) where it is used, so that nets can be traced."""
    shape = tuple(images.shape[2:])
    require(shape == (side, side), f"{who}: images must be {side} x {side} px, got {shape}")


class DropPath(nn.Module):
    """A residual branch left out, for each sample by itself, with probability `rate` in training; else scaled up.

    Source: Huang et al. 2016 (arXiv 1603.09382), eq. 2, at test time's scale as in timm.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        require(0 <= rate < 1, f"drop_path must be at least 0 and below 1, got {rate}")
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        if not self.training or self.rate == 0:
            return branch
        kept = torch.full((len(branch), *(1,) * (branch.ndim - 1)), 1 - self.rate, device=branch.device)
        return branch * (torch.bernoulli(kept) / (1 - self.rate)).to(branch.dtype)


class Mlp(nn.Module):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(tokens)))


class Attention(nn.Module):
    """Self-attention of `heads` heads over tokens [n, t, c]."""

    def __init__(self, width: int, heads: int, *, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=bias)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        query, key, value = self.qkv(tokens).chunk(3, -1)
        return self.proj(attention(query, key, value, self.heads))


def attention(query: Tensor, key: Tensor, value: Tensor, heads: int) -> Tensor:
    """softmax(query key^T / sqrt(c / heads)) value for each head by itself, over tokens [n, t, c]."""
    query, key, value = (
        query.unflatten(-1, (heads, -1)).transpose(1, 2),
        key.unflatten(-1, (heads, -1)).transpose(1, 2),
        value.unflatten(-1, (heads, -1)).transpose(1, 2),
    )
    return F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)), both branches under drop-path."""

    def __init__(self, width: int, attention: nn.Module, hidden: int, *, drop_path: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = attention
        self.drop_path = DropPath(drop_path)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = Mlp(width, hidden)

    def forward(self, tokens: Tensor, *shape: int) -> Tensor:
        tokens = tokens + self.drop_path(self.attn(self.norm1(tokens), *shape))
        return tokens + self.drop_path(self.mlp(self.norm2(tokens)))


def drop_rates(most: float, depth: int) -> list[float]:
    """Drop-path of each of `depth` blocks, rising in equal steps from 0 to `most`.

    >>> drop_rates(0.5, 3)
    [0.0, 0.25, 0.5]
    """
    return [most * i / max(depth - 1, 1) for i in range(depth)]


def start_weights(model: nn.Module) -> None:
    """Linear weights ~ N(0, 0.02^2) cut at +-2, biases 0, normalisation at the identity. Source: timm's vision nets."""
    for module in model.modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            continue  # only shapes are wanted
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def start_token(parameter: Tensor) -> None:
    """A class token or position embedding ~ N(0, 0.02^2) cut at +-2."""
    if not parameter.is_meta:
        nn.init.trunc_normal_(parameter, std=0.02)


def sinusoids(positions: int, width: int) -> Tensor:
    """Fixed position embeddings [1, positions, width]: sin at even places, cos at odd ones.

    Source: Vaswani et al. 2017 (arXiv 1706.03762), sec. 3.5.
    """
    # on the CPU: on the meta device, where nets are built for their shapes alone, arange imports two seconds' worth
    place = torch.arange(positions, dtype=torch.float64, device="cpu")[:, None]
    channel = torch.arange(width, dtype=torch.float64, device="cpu")
    angle = place / torch.exp(math.log(10000) * (2 * (channel // 2) / width))
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None].to(torch.get_default_device())
