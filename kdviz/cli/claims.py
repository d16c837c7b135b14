"""`kdviz compare ... --claim`: which runs belong together, and the verdict on a claim."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdviz.base.check import require
from kdviz.cli.landscape_output import Output, print_table
from kdviz.cli.pace import progress

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.analysis.landscape.nets import Nets
    from kdviz.analysis.landscape.options import Grid, Measurement
    from kdviz.checkpoints import Checkpoint


def split(words: Sequence[str]) -> tuple[list[str | None], list[Path]]:
    """The groups that were named by GROUP=FILE, None where a file stands alone, and the files.

    >>> split(["a=runs/x/last.pt", "runs/y=2"])
    (['a', None], [PosixPath('runs/x/last.pt'), PosixPath('runs/y=2')])
    """
    names, files = [], []
    for word in words:
        name, equals, path = word.partition("=")
        is_named = bool(equals and path) and "/" not in name and not Path(word).exists()
        names.append(name if is_named else None)
        files.append(Path(path if is_named else word))
    return names, files


def grouped(nets: "Nets", names: Sequence[str | None]) -> dict[str, list[str]]:
    """Group -> labels of its nets, in the order in which they were named.

    Runs without a group's name belong to that of their method, with those of its settings that differ between the runs
    of the method.
    """
    shared = {
        one.method: _shared([other for other in nets.checkpoints if other.method == one.method])
        for one in nets.checkpoints
    }
    found: dict[str, list[str]] = {}
    for name, label, checkpoint in zip(names, nets.labels, nets.checkpoints, strict=True):
        if name is None:
            require(
                checkpoint.method is not None,
                f"{checkpoint.path}: does not say its method; name its group with GROUP={checkpoint.path}",
            )
            own = [
                f"{key} {value}"
                for key, value in _settings(checkpoint).items()
                if shared[checkpoint.method].get(key) != value
            ]
            name = ", ".join([str(checkpoint.method), *own])
        found.setdefault(name, []).append(label)
    return found


def _settings(checkpoint: "Checkpoint") -> dict[str, str]:
    return {key: str(value) for key, value in (checkpoint.recipe or {}).get("settings", {}).items()}


def _shared(checkpoints: "Sequence[Checkpoint]") -> dict[str, str]:
    """The settings that all of them have alike."""
    first, *rest = map(_settings, checkpoints)
    return {key: value for key, value in first.items() if all(one.get(key) == value for one in rest)}


def measure(
    nets: "Nets",
    claims: Sequence[str],
    measurement: "Measurement",
    grid: "Grid",
    output: Output,
    *,
    planes: int,
    subsets: int,
    epsilon: float,
) -> "xr.Dataset":
    """The quantities of the claims for every net; finished points are kept beside the output until it is written."""
    from kdviz.analysis.claims import CLAIMS, QUANTITIES, from_comparisons, of_logits
    from kdviz.analysis.landscape.compare import Statistics
    from kdviz.analysis.landscape.nets import compare_nets

    needed = {QUANTITIES[name].of for claim in claims for name in CLAIMS[claim][1]}
    parts = []
    if needed & {"landscape", "hessian"}:
        statistics = Statistics(epsilon=epsilon, eigenvalues=int("hessian" in needed))
        found = []
        for subset in range(subsets):
            here = replace(measurement, seed=measurement.seed + subset)
            there = replace(grid, seed=grid.seed + subset * planes)
            with progress(f"subset {subset + 1} of {subsets}") as moved:
                kept = {"journal": output.journal(f"compare.subset{subset}"), "progress": moved}
                found.append(compare_nets(nets, here, there, statistics, planes=planes, **kept)[0])
        parts.append(from_comparisons(found, str(found[0]["loss"].values[0])))
    if "logits" in needed:
        teacher = nets.teacher
        require(teacher is not None, "compare: this claim needs the teacher; name its checkpoint with --teacher")
        parts.append(of_logits(dict(zip(nets.labels, nets.checkpoints, strict=True)), nets.images, teacher))
    first, *rest = parts
    return first.merge(rest[0]) if rest else first


def show(result: "xr.Dataset") -> None:
    """Print the numbers and the verdicts."""
    from kdviz.analysis.claims import rows, sentences

    print_table(rows(result))
    typer.echo("\n" + "\n".join(sentences(result)))
