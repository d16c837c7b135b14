"""ImageNet's VGGs and MobileNetV2 among a file's tensors: nets that torchvision builds and kdviz does not."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from kdviz.base.check import KdvizError
from kdviz.checkpoints.match_architecture import Shapes, shapes_of
from kdviz.checkpoints.search import without_prefixes

# convolutions before the classifier -> depth with it
VGGS = {8: 11, 10: 13, 13: 16, 16: 19}


def library_name(shapes: Shapes) -> str | None:
    """torchvision's name of the VGG or MobileNetV2 that these tensors are of, or None.

    >>> library_name({"features.18.0.weight": (1280, 320, 1, 1), "classifier.1.weight": (1000, 1280)})
    'mobilenet_v2'
    """
    if shapes.get("features.18.0.weight") == (1280, 320, 1, 1) and "classifier.1.weight" in shapes:
        return "mobilenet_v2"
    if shapes.get("features.0.weight") == (64, 3, 3, 3) and shapes.get("classifier.0.weight") == (4096, 25088):
        maps = [key for key, shape in shapes.items() if key.startswith("features.") and len(shape) == 4]
        norm = "_bn" if "features.1.running_mean" in shapes else ""
        return f"vgg{VGGS[len(maps)]}{norm}" if len(maps) in VGGS else None
    return None


def claims(state: Mapping[str, Any]) -> Iterator[str]:
    """The name under which `kdviz.models.build` has the net in `state` by way of torchvision.

    Raises: KdvizError where it is such a net and torchvision cannot be imported.
    """
    name = library_name(shapes_of(without_prefixes(state)))
    if name is None:
        return
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError) as error:  # built for another torch it raises RuntimeError
        raise KdvizError(
            f"is torchvision's {name}, and torchvision cannot be imported here; pip install 'kdviz[models]', then it"
            f" opens by itself (or as FILE@torchvision:{name})"
        ) from error
    yield f"torchvision:{name}"
