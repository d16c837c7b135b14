"""Optimizers and learning-rate schedules of a recipe."""

import math
from collections.abc import Iterable

import torch
from torch import nn

from kdviz.train.recipe import Recipe


def build_optimizer(recipe: Recipe, parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """SGD or AdamW over `parameters`, with the recipe's settings."""
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(parameters, lr=recipe.lr, weight_decay=recipe.weight_decay)
    nesterov = recipe.nesterov and recipe.momentum > 0
    return torch.optim.SGD(
        parameters, lr=recipe.lr, momentum=recipe.momentum, nesterov=nesterov, weight_decay=recipe.weight_decay
    )


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """The learning rate at a fractional epoch: linear warm-up, then steps or a half cosine to `min_lr`.

    >>> learning_rate(Recipe(epochs=11, warmup=1, lr=1.0), 0.5), round(learning_rate(Recipe(epochs=11, lr=1.0), 6.0), 9)
    (0.5, 0.5)
    """
    if epoch < recipe.warmup:
        return recipe.lr * max(epoch, 1e-3) / recipe.warmup
    if recipe.schedule == "step":
        return recipe.lr * recipe.decay ** sum(epoch >= milestone for milestone in recipe.milestones)
    share = (epoch - recipe.warmup) / max(recipe.epochs - recipe.warmup, 1e-9)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
