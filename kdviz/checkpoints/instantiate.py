"""A net with a file's tensors in it: chosen by name or by shapes, checked, loaded strictly."""

import copy
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from kdviz.base.check import KdvizError, require
from kdviz.checkpoints import imagenet, search
from kdviz.checkpoints import match_architecture as matching
from kdviz.checkpoints.read import BROKEN
from kdviz.models import LIBRARY_NAMES, MODELS, build
from kdviz.models.detection import is_detector
from kdviz.models.external import is_external

Net = str | nn.Module | None
CLASS_SCORES = "roi_heads.box_predictor.cls_score.weight"  # of torchvision's detectors
SMALL = 2**28  # bytes; what an expanded tensor of so many may claim without holding it


class Instance(NamedTuple):
    """The net in eval mode, what it is, and the prefixes of the tensors that were left."""

    net: nn.Module
    name: str
    classes: int
    dropped: list[str]


def instantiate(
    state: Mapping[str, Any],
    *,
    model: Net = None,
    classes: int | None = None,
    stated: int | None = None,
    claims: Sequence[str] = (),
) -> Instance:
    """The net that the student's tensors in `state` belong to, filled with them.

    Args:
        state: tensors under the file's names, with all prefixes, of the teacher and others too.
        model: a binding name, or a net of which a copy is filled; None takes the net of the registry that fits.
        classes, stated: class counts that the user asks for and that the file states.
        claims: names to try where no net of the registry fits.

    Raises: KdvizError when nothing fits, class counts differ, or weights are not finite.
    """
    require(isinstance(state, Mapping) and state, "has no tensors")
    check_sizes(state)
    candidates = chain([None, *claims], imagenet.claims(state)) if model is None else [model]
    unlike = any(is_external(claim) for claim in claims)
    found = (search.find(state, lambda shapes, net=net: _match(net, shapes, classes, unlike)) for net in candidates)
    student = next((one for one in found if one is not None), None)
    if student is None:
        raise KdvizError(
            _misfit(matching.shapes_of(search.without_prefixes(state)), model or next(iter(claims), None), classes)
        )
    name, has = student.match
    for who, count in (("you asked for", classes), ("the file says", stated)):
        require(count in (None, has), f"its {name} has {has} classes, but {who} {count}")
    check_numbers(student.state)
    net = copy.deepcopy(model) if isinstance(model, nn.Module) else _empty(name, has)
    return Instance(_loaded(net, student.state), name, has, student.dropped)


def _match(net: Net, shapes: matching.Shapes, classes: int | None, unlike: bool) -> matching.Match | None:
    """The net, if it has exactly these shapes; any net of the registry for None.

    With `unlike`, the file names another library's net that is none of ours, which may have the tensors of one of ours
    and compute something else (timm's resnetblur50 has those of resnet50).
    """
    if net is None:
        fitting = matching.infer(shapes)
        return None if fitting and unlike and fitting.name in LIBRARY_NAMES.values() else fitting
    if isinstance(net, str) and is_detector(net):
        count = (shapes.get(CLASS_SCORES) or (0,))[0] - 1  # background is a class of the head alone
        return matching.Match(net, count) if count > 0 and _shapes(net, count) == dict(shapes) else None
    if isinstance(net, str) and not is_external(net):
        count = matching.classes_for(net, shapes)
        return None if count is None else matching.Match(net, count)
    count = classes or matching.head_size(shapes)
    if count < 2 or _shapes(net, count) != dict(shapes):
        return None
    return matching.Match(net if isinstance(net, str) else type(net).__name__, count)


def _shapes(net: str | nn.Module, classes: int) -> dict[str, tuple[int, ...]]:
    return _shapes_of_name(net, classes) if isinstance(net, str) else matching.shapes_of(net.state_dict())


@lru_cache(maxsize=4)  # a search asks for the same net at every prefix
def _shapes_of_name(name: str, classes: int) -> dict[str, tuple[int, ...]]:
    if is_external(name) or is_detector(name):
        return matching.shapes_of(build(name, classes=classes, seed=0).state_dict())
    return matching.with_classes(name, classes)


def _misfit(shapes: matching.Shapes, named: Net, classes: int | None) -> str:
    """Why these tensors fit nothing, compared with the net that was named, or the nearest."""
    name, share = (named, 1.0) if named is not None else matching.nearest(shapes)
    if share < 0.5:
        key = next(iter(shapes), "none")
        return (
            f"fits no known net ({len(shapes)} tensors, the first {key} {shapes.get(key, ())}); say which it is:"
            " FILE@timm:NAME, FILE@torchvision:NAME or FILE@package.module:function"
        )
    expected = _shapes(name, classes or matching.head_size(shapes) or matching.CLASSES)
    verb = "is nearest to" if named is None else "does not fit"
    return f"{verb} {name if isinstance(name, str) else type(name).__name__}: {matching.differences(expected, shapes)}"


def check_sizes(state: Mapping[str, Tensor]) -> None:
    """Refuse large tensors that claim more numbers than they hold: with a stride of 0 four bytes may stand for many."""
    for key, tensor in state.items():
        if tensor.layout != torch.strided or tensor.is_meta:
            continue  # refused where they are used
        claimed, held = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
        require(claimed <= max(held, SMALL), f"{key} claims {claimed} bytes but the file holds {held} of it; damaged")


def check_numbers(state: Mapping[str, Tensor]) -> None:
    """Refuse tensors that hold no ordinary numbers."""
    for key, tensor in state.items():
        ordinary = tensor.layout == torch.strided and not tensor.is_quantized and tensor.device.type == "cpu"
        require(
            ordinary and not tensor.is_complex(), f"{key} is not an ordinary dense tensor; save the weights in float32"
        )
        if tensor.is_floating_point():
            count = int((~torch.isfinite(tensor.float())).sum())
            require(
                count == 0, f"{key} is not finite in {count} of {tensor.numel()} numbers; did the training diverge?"
            )


def _empty(name: str, classes: int) -> nn.Module:
    """A net to be filled; ours without memory yet, so that nothing is drawn at random and nothing copied twice."""
    if is_external(name) or is_detector(name):  # may hold buffers that no file has
        return build(name, classes=classes, seed=0)
    with torch.device("meta"):
        return MODELS[name](classes)


def _loaded(net: nn.Module, state: Mapping[str, Tensor]) -> nn.Module:
    """The net with copies of the tensors, in its own types, in eval mode."""
    own = net.state_dict()
    beside = next((key for key in state if key not in own), None)
    require(beside is None, f"has {beside} beside the net")
    counters = {key: torch.zeros((), dtype=torch.long) for key in own if key.endswith(matching.COUNTER)}
    try:
        copies = {
            key: tensor.to(own[key].dtype, copy=True, memory_format=torch.contiguous_format)
            for key, tensor in {**counters, **state}.items()
        }
        net.load_state_dict(copies, assign=any(tensor.is_meta for tensor in own.values()))
    except BROKEN as error:
        raise KdvizError(f"cannot be loaded ({' '.join(str(error).split())[:200]})") from error
    return net.eval()
