"""ImageNet's residual nets among a file's tensors: torchvision and timm build them under the same tensor names."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from kdviz.base.check import KdvizError
from kdviz.checkpoints.match_architecture import Shapes, shapes_of
from kdviz.checkpoints.search import without_prefixes

LIBRARIES = ("torchvision", "timm")
# (convolutions in a block, blocks of each stage) -> name
RESNETS: dict[tuple[int, tuple[int, ...]], str] = {
    (2, (2, 2, 2, 2)): "resnet18",
    (2, (3, 4, 6, 3)): "resnet34",
    (3, (3, 4, 6, 3)): "resnet50",
    (3, (3, 4, 23, 3)): "resnet101",
    (3, (3, 8, 36, 3)): "resnet152",
}


def resnet_name(shapes: Shapes) -> str | None:
    """The residual net with ImageNet's 7x7 stem that these tensors are of, or None.

    >>> resnet_name({"conv1.weight": (64, 3, 3, 3)}) is None
    True
    """
    if shapes.get("conv1.weight") != (64, 3, 7, 7) or "fc.weight" not in shapes:
        return None
    if shapes.get("layer1.0.conv2.weight") != (64, 64, 3, 3):  # wider and grouped nets have other names
        return None
    depths = tuple(len({key.split(".")[1] for key in shapes if key.startswith(f"layer{i}.")}) for i in range(1, 5))
    convolutions = 3 if "layer1.0.conv3.weight" in shapes else 2
    return RESNETS.get((convolutions, depths))


def claims(state: Mapping[str, Any]) -> Iterator[str]:
    """Names under which `kdviz.models.build` may have the net in `state`, by the libraries that can be imported here.

    Raises: KdvizError where it is such a net and no library that has it can be imported.
    """
    name = resnet_name(shapes_of(without_prefixes(state)))
    if name is None:
        return
    there = [library for library in LIBRARIES if _importable(library)]
    if not there:
        raise KdvizError(
            f"is a {name} with ImageNet's stem, which torchvision and timm build, but neither can be imported here;"
            f" pip install 'kdviz[models]', then it opens by itself (or as FILE@torchvision:{name})"
        )
    yield from (f"{library}:{name}" for library in there)


def _importable(library: str) -> bool:
    try:
        importlib.import_module(library)
    except (ImportError, RuntimeError):  # torchvision for another torch raises RuntimeError
        return False
    return True
