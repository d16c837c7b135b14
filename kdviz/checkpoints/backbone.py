"""A detector's backbone from a classifier's file: torchvision's ImageNet weights, or any file of the same net."""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from kdviz.base.check import KdvizError, existing
from kdviz.base.files import sha256
from kdviz.checkpoints import foreign, imagenet, search
from kdviz.checkpoints import match_architecture as matching
from kdviz.checkpoints.instantiate import check_numbers, check_sizes
from kdviz.checkpoints.read import read_file
from kdviz.checkpoints.run_folder import checkpoint_file
from kdviz.checkpoints.schema import check_checkpoint

# What a classifier has behind the backbone; of MobileNetV2 its last convolution too, which no detector has.
CLASSIFIER = ("fc.", "classifier.", "features.18.")


def load_backbone(path: str | os.PathLike, detector: Any, *, name: str) -> str:
    """Fill a detector's backbone, in place, with a classifier's weights; its classifier is left out.

    Args:
        path: a file as `load_checkpoint` opens it, or a run's folder; the tensors are named as torchvision names them,
            after any prefix ("module.").
        detector: of `kdviz.models.detection.DETECTORS`, its batch normalisation not frozen yet.
        name: of the detector, for messages.
    Returns: the file's SHA-256.
    Raises: KdvizError, in one line, for a file that is missing, truncated, hostile or of another net, or whose weights
        are not finite.
    """
    file = checkpoint_file(existing(path, what="backbone"))
    payload = read_file(file)
    try:
        ours = isinstance(payload, Mapping) and "kdviz" in payload
        state = check_checkpoint(payload)["state_dict"] if ours else foreign.parse(payload).state
        _fill(detector.backbone.body, state, name)
    except KdvizError as error:
        raise KdvizError(f"{file}: {error}") from error
    return sha256(file)


def _fill(body: nn.Module, state: Mapping[str, Tensor], name: str) -> None:
    own = body.state_dict()
    prefix = "features." if "0" in body._modules else ""  # MobileNetV2's blocks are numbered
    expected = {f"{prefix}{key}": shape for key, shape in matching.shapes_of(own).items()}

    def fits(shapes: matching.Shapes) -> matching.Match | None:
        return None if _difference(expected, shapes) else matching.Match(name, 0)

    check_sizes(state)
    found = search.find(state, fits)
    if found is None:
        shapes = matching.shapes_of(search.without_prefixes(state))
        raise KdvizError(
            f"is no backbone of {name}: {_difference(expected, shapes)}; it {_looks(shapes)}. Give the file of a"
            " classifier with the detector's own backbone, or another --student"
        )
    check_numbers(found.state)
    filled = {key: found.state[f"{prefix}{key}"] for key in own if f"{prefix}{key}" in found.state}
    body.load_state_dict({**own, **{key: tensor.to(own[key].dtype) for key, tensor in filled.items()}})


def _difference(expected: matching.Shapes, shapes: matching.Shapes) -> str:
    """The first tensor in which a file is not of the backbone; "" where it is."""
    for key, shape in expected.items():
        if key not in shapes:
            return f"it lacks {key}"
        if shapes[key] != shape:
            return f"its {key} is {shapes[key]}, expected {shape}"
    beside = next((key for key in shapes if key not in expected and not key.startswith(CLASSIFIER)), None)
    return f"it has {beside} beside it" if beside else ""


def _looks(shapes: matching.Shapes) -> str:
    """What net a file's tensors are of, in words."""
    match = matching.infer(shapes)
    if known := match.name if match else imagenet.library_name(shapes):
        return f"looks like {known}"
    near, share = matching.nearest(shapes)
    if share >= 0.5:
        return f"is nearest to {near}"
    key = next(iter(shapes), "none")
    return f"fits no known net ({len(shapes)} tensors, the first {key})"
