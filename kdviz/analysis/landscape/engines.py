"""Which of the three engines sweeps the points: this process, the adaptive spline, or all ranks of torchrun."""

from collections.abc import Callable
from typing import Any

from kdviz.analysis.landscape.adaptive import adaptive
from kdviz.analysis.landscape.distributed import distributed_sweep, merge_journals
from kdviz.analysis.landscape.sweep import sweep
from kdviz.base.check import require
from kdviz.base.processes import rank_and_world


def choose_engine(*, refine: bool = False) -> Callable[..., Any]:
    """An engine for `survey` and `profiles`, whose journals all engines understand.

    Args:
        refine: measure a third of the points and interpolate the others.
    Raises:
        KdvizError: `refine` on several processes.
    """
    if rank_and_world()[1] > 1:
        require(not refine, "landscape: --adaptive decides point by point; run it on one process")
        return distributed_sweep

    def one_process(*given: Any, journal: Any, **options: Any) -> Any:
        if journal is not None:
            merge_journals(journal)  # of an earlier run on several processes
        return (adaptive if refine else sweep)(*given, journal=journal, **options)

    return one_process
