"""torchvision's detection models: the only place that imports them."""

import importlib
import os
import sys
import warnings
from types import ModuleType

from kdviz.base.check import KdvizError

FALLBACK = "KDVIZ_TORCHVISION_FALLBACK"  # the environment variable that switches the Python operators on


def torchvision_detection() -> ModuleType:
    """The module `torchvision.models.detection`.

    Where torchvision's compiled operators do not load (its wheel is of another torch, or wants CUDA), importing it
    fails. With the environment variable KDVIZ_TORCHVISION_FALLBACK=1 the operators that detectors need are then defined
    in Python (`kdviz.models.detection.fallback`), with a warning: slower, and meant for tests and trials.

    Raises: KdvizError where torchvision is not installed, or does not load and the fallback is off.
    """
    try:
        return importlib.import_module("torchvision.models.detection")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "torchvision":
            raise KdvizError(
                "detectors need torchvision, which is not installed; pip install 'kdviz[detection]'"
            ) from error
        raise
    except (ImportError, RuntimeError) as error:
        if os.environ.get(FALLBACK) != "1":
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise KdvizError(
                f"torchvision is installed, but its compiled operators do not load ({reason}); install the torchvision"
                f" that was built for your torch, or set {FALLBACK}=1 to run slow Python versions of them"
            ) from error
    return _with_fallback()


def _with_fallback() -> ModuleType:
    """The module, its operators in Python; what an attempt before left imported of torchvision is dropped."""
    from kdviz.models.detection import fallback

    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]
    fallback.define()
    module = importlib.import_module("torchvision.models.detection")
    fallback.enable()
    warnings.warn(
        f"{FALLBACK}=1: torchvision's compiled operators do not load; detectors run on slow Python versions of nms and"
        " roi_align",
        stacklevel=3,
    )
    return module
