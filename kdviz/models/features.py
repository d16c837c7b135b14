"""Features of any net by the names of its modules, taken by forward hooks."""

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from kdviz.base.check import KdvizError, require, unknown
from kdviz.models.outputs import Outputs, logits_of


def with_features(net: nn.Module, names: Sequence[str]) -> "WithFeatures":
    """The net, returning `Outputs` with the named modules' maps as its stages.

    `net` itself stays as it is and shares its weights; the names in `state_dict()` are the net's own.

    Args:
        net: any net whose output holds logits, see `logits_of`.
        names: of modules whose output is a map `[n, c, h, w]`, in the order of the stages, "layer1", "layer2".

    Raises: KdvizError for an unknown name, with a close match, or one that stands there twice; at the first forward
        pass with features, for a module that runs not once or whose output is no map.

    >>> import torch
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5))
    >>> outputs = with_features(net, ["1"])(torch.zeros(2, 3, 8, 8), features=True)
    >>> [tuple(maps.shape) for maps in outputs.features], outputs.pooled.shape
    ([(2, 3, 8, 8), (2, 8, 6, 6)], torch.Size([2, 8]))
    """
    return WithFeatures(net, names)


class Recorder:
    """A forward hook that keeps a module's outputs while it is asked to."""

    def __init__(self) -> None:
        self.on = False
        self.seen: list[Any] = []

    def __call__(self, module: nn.Module, arguments: Any, output: Any) -> None:
        if self.on:
            self.seen.append(output)


class WithFeatures(nn.Module):
    """A net whose forward pass can also return the maps of named modules; see `with_features`.

    Attributes:
        net: the net itself.
        names: of the modules.
    """

    def __init__(self, net: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        known = dict(net.named_modules())
        require(names, "features-at: no module is named; expected names as in layer1,layer2")
        for name in names:
            if name not in known or not name:
                alike = [each for each in known if each and each.count(".") <= name.count(".")]
                raise unknown("module", name, alike)
            require(list(names).count(name) == 1, f"features-at: the module {name!r} stands there twice; drop one")
        self.net, self.names, self.training = net, tuple(names), net.training
        self._recorders = {name: Recorder() for name in names}
        for name, recorder in self._recorders.items():
            known[name].register_forward_hook(recorder)
        self.register_load_state_dict_pre_hook(_to_inner_names)

    def forward(self, images: Tensor, features: bool = False) -> Outputs:
        """Outputs for images `[n, c, h, w]`.

        With `features`, the first map is the images themselves, which stand for a stem, then come those of the named
        modules; they are the preactivations as well, so that modules before a ReLU serve methods that compare there.
        The pooled features are the mean of the last map over its positions.
        """
        if not features:
            return Outputs(logits_of(self.net(images)))
        try:
            for recorder in self._recorders.values():
                recorder.on = True
            logits = logits_of(self.net(images))
            maps = (images, *(_map(name, recorder.seen) for name, recorder in self._recorders.items()))
        finally:
            for recorder in self._recorders.values():
                recorder.on, recorder.seen = False, []
        return Outputs(logits, maps, maps[-1].mean((2, 3)), maps)

    def bn_before_relu(self) -> list[nn.BatchNorm2d]:
        """The named modules, where each is a batch norm; OFD reads its margins off them.

        Raises: KdvizError where one is not.
        """
        modules = [self.net.get_submodule(name) for name in self.names]
        norms = [module for module in modules if isinstance(module, nn.BatchNorm2d)]
        if len(norms) < len(modules):
            kinds = {name: type(module).__name__ for name, module in zip(self.names, modules, strict=True)}
            other = next(f"{name} is a {kind}" for name, kind in kinds.items() if kind != "BatchNorm2d")
            raise KdvizError(f"features-at: {other}; expected the BatchNorm2d before the ReLU of each stage")
        return norms

    def state_dict(self, *args: Any, **settings: Any) -> Any:
        """The state of the net, under its own names."""
        return self.net.state_dict(*args, **settings)


def _map(name: str, seen: Iterable[Any]) -> Tensor:
    """The one map that the module gave."""
    found = list(seen)
    require(
        len(found) == 1,
        f"features-at: the module {name!r} ran {len(found)} times in one forward pass;"
        " expected one that runs once, such as the stage around it",
    )
    kind = f"{tuple(found[0].shape)}" if isinstance(found[0], Tensor) else f"a {type(found[0]).__name__}"
    require(
        isinstance(found[0], Tensor) and found[0].ndim == 4,
        f"features-at: the module {name!r} gives {kind}; expected a map [samples, channels, height, width]",
    )
    return found[0]


def _to_inner_names(_module: nn.Module, state: dict[str, Any], prefix: str, *rest: Any) -> None:
    """Names as in a state of the net alone -> names that torch looks for below the wrapper."""
    for key in [key for key in state if key.startswith(prefix)]:
        state[f"{prefix}net.{key[len(prefix) :]}"] = state.pop(key)
