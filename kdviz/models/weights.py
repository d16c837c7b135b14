"""Initial weights as the published nets start from."""

from torch import nn


def kaiming(model: nn.Module) -> None:
    """Convolutions ~ N(0, 2 / (k_h k_w c_out)) with biases 0, batch normalisation at the identity; the rest stays.

    Source: He et al. 2015, eq. 14 (fan-out); every CIFAR net of RepDistiller but the ShuffleNets.
    """
    for module in model.modules():
        if any(parameter.is_meta for parameter in module.parameters(recurse=False)):
            continue  # only shapes are wanted, and drawing on the meta device imports a second's worth of torch
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


def small_linear(layer: nn.Linear) -> None:
    """A classifier that starts near 0: weights ~ N(0, 0.01^2), bias 0. Source: RepDistiller's vgg and MobileNetV2."""
    if not layer.weight.is_meta:
        nn.init.normal_(layer.weight, 0.0, 0.01)
    nn.init.zeros_(layer.bias)
