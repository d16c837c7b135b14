"""What `kdviz landscape` does with its words: open, sweep with a journal, write, draw, compare."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdviz.base.check import KdvizError, require, unknown
from kdviz.cli.common import folder, open_checkpoint, open_data, open_teacher, progress, write, write_figures

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data


@dataclass(frozen=True)
class Opened:
    """The nets of a call with their names in figures and in files, the data and the teacher that they share."""

    nets: list["Checkpoint"]
    labels: list[str]
    stems: list[str]
    data: "Data"
    teacher: "Checkpoint | None"
    name: str


@dataclass(frozen=True)
class Plan:
    """Everything that a call of the command decided."""

    opened: Opened
    engine: dict[str, Any]
    bn: str | None
    span: float
    steps: int
    seed: int
    normalize: str
    directions: str
    one_d: bool
    adaptive: bool
    where: Path

    def journal(self, name: str) -> Path:
        """The file that keeps finished points until the result is written."""
        self.where.mkdir(parents=True, exist_ok=True)
        return self.where / f".{name}.points"

    def evaluator(self, index: int, journal: Path) -> Any:
        """The measurement of one net."""
        from kdviz.analysis.landscape import Evaluator, remembered
        from kdviz.analysis.landscape.distributed import local_device, rank_and_world

        device = local_device() if rank_and_world()[1] > 1 else None
        return Evaluator(
            self.opened.nets[index].model,
            self.opened.data,
            teacher=taught(self.opened),
            bn=self.bn or "frozen",
            seed=self.seed,
            chunk=remembered(journal, "auto"),
            device=device,
            **self.engine,
        )


def taught(opened: Opened) -> Any:
    """The teacher's net, or None."""
    return opened.teacher.model if opened.teacher else None


def writable(html: bool, export: Sequence[str], *, line: bool, many: bool) -> None:
    """Refuse before the sweep what could not be written after it."""
    from kdviz.analysis.landscape.interop import EXPORTS

    require(not (html and line), "landscape: --html draws planes; leave it out for lines")
    for suffix in export:
        if suffix not in EXPORTS:
            raise unknown("export format", suffix, EXPORTS)
    require(not (line and "vtp" in export), "landscape: --export vtp wants a plane, not a line")
    require(not (many and export), "landscape: --export wants one line or plane, not --lines")


def open_all(
    paths: Sequence[Path],
    losses: Sequence[str],
    trajectory: bool,
    model: str | None,
    data: str | None,
    root: Path | None,
    split: str,
    teacher: Path | None,
) -> Opened:
    """The checkpoints (or a run's epochs), one data set and, where a loss wants it, one teacher for all."""
    from kdviz.analysis.landscape.evaluate import needs_teacher

    files = list(paths)
    if trajectory:
        require(len(paths) == 1, f"landscape --trajectory: expected one run's folder, got {len(paths)} paths")
        files = sorted((paths[0] / "epochs").glob("epoch_*.pt"))
        hint = "train with --keep-epochs 1"
        require(len(files) >= 3, f"{paths[0]}: needs three or more kept epochs in epochs/, found {len(files)}; {hint}")
    wanted = needs_teacher(losses)
    nets = [open_checkpoint(path, model) for path in files]
    for net in nets[1:]:
        require(
            net.classes == nets[0].classes,
            f"{net.path} has {net.classes} classes but {nets[0].path} has {nets[0].classes}; draw them apart",
        )
    found = open_data(nets[0], data, root, split)
    known = next((net for net in nets if net.teacher), nets[0])  # a ce student beside distilled ones has their teacher
    stems = _different([path.stem for path in files], [f"{path.parent.name}_{path.stem}" for path in files])
    labels = _different([net.method or stem for net, stem in zip(nets, stems, strict=True)], stems)
    name = paths[0].resolve().name if trajectory else "_".join(stems)
    return Opened(nets, labels, stems, found, open_teacher(known, teacher) if wanted else None, name)


def place(opened: Opened, kinds: Sequence[str], out: Path | None) -> Path:
    """The folder of results; by default one of its own for each kind of line or plane, that none replaces another."""
    return folder("_".join(("landscape", opened.name, *kinds)), out)


def around(plan: Plan, index: int, lines: int) -> "xr.Dataset | None":
    """The plane, line or ensemble of lines around one net; None on ranks that only helped."""
    from kdviz.analysis.landscape import profiles, survey

    journal = plan.journal(plan.opened.stems[index])
    evaluator = plan.evaluator(index, journal.with_name(f"{journal.name}.seed{plan.seed}") if lines else journal)
    given: dict[str, Any] = {"span": plan.span, "steps": plan.steps, "normalize": plan.normalize, "journal": journal}
    with progress(f"landscape of {plan.opened.labels[index]}") as moved:
        given |= {"progress": moved, "engine": _engine(plan)}
        if lines:
            found = profiles(evaluator, seeds=range(plan.seed, plan.seed + lines), **given)
        else:
            if plan.directions == "hessian":
                vectors, span = _eigenvectors(plan, index, evaluator)
                given |= {"directions": vectors, "span": span, "normalize": "hessian"}
            found = survey(evaluator, seed=plan.seed, one_d=plan.one_d, **given)
    return None if found is None else _named(found, plan, [plan.opened.nets[index]], plan.opened.labels[index])


def _engine(plan: Plan) -> Callable[..., Any]:
    """Who goes over the points: this process, the spline's, or all ranks of torchrun together."""
    from kdviz.analysis.landscape.adaptive import adaptive
    from kdviz.analysis.landscape.distributed import absorb, distributed_sweep, rank_and_world
    from kdviz.analysis.landscape.sweep import sweep

    if rank_and_world()[1] > 1:
        require(not plan.adaptive, "landscape: --adaptive decides point by point; run it on one process")
        return distributed_sweep

    def alone(*given: Any, journal: Any, **options: Any) -> Any:
        absorb(journal)  # what many ranks have left behind
        return (adaptive if plan.adaptive else sweep)(*given, journal=journal, **options)

    return alone


def _eigenvectors(plan: Plan, index: int, evaluator: Any) -> tuple[Any, float]:
    """The two top eigenvectors of the first loss' Hessian, of length 1, and the plan's span as a distance along them.

    A span of 1 is where the loss, were it the quadratic of the top eigenvalue, had risen by 1.
    """
    from kdviz.analysis.landscape.sharpness import hessian

    require(evaluator.terms, "landscape: --directions hessian needs a loss among --losses")
    name, settings = next(iter(evaluator.terms.items()))
    found, vectors = hessian(
        plan.opened.nets[index].model,
        plan.opened.data,
        loss=name,
        teacher=taught(plan.opened),
        settings=settings,
        eigenvalues=2,
        probes=0,
        samples=plan.engine["samples"],
        seed=plan.seed,
    )
    top = float(found["eigenvalue"][0])
    require(top > 0, f"{plan.opened.nets[index].path}: the loss curves upward in no direction; draw random ones")
    return vectors[:2], float(f"{plan.span * (2 / top) ** 0.5:.2g}")


def joined(plan: Plan, trajectory: bool) -> "xr.Dataset":
    """The line or plane through the nets, or a run's trajectory."""
    from kdviz.analysis.landscape import paths
    from kdviz.analysis.landscape.distributed import rank_and_world

    require(rank_and_world()[1] == 1, "landscape: --between and --trajectory run on one process")
    opened, models = plan.opened, [net.model for net in plan.opened.nets]
    options: dict[str, Any] = {"journal": plan.journal("joined"), "teacher": taught(opened), **plan.engine}
    options["seed"] = plan.seed
    options |= {"bn": plan.bn} if plan.bn else {}
    with progress("landscape") as moved:
        options |= {"steps": plan.steps, "progress": moved}
        if trajectory:
            epochs = [net.epoch if net.epoch is not None else at for at, net in enumerate(opened.nets)]
            found = paths.trajectory(models, opened.data, epochs=epochs, **options)
        elif len(models) == 2:
            found = paths.interpolation(models[0], models[1], opened.data, labels=opened.labels, **options)
        elif len(models) == 3:
            found = paths.plane(models, opened.data, labels=opened.labels, **options)
        else:
            raise KdvizError(f"landscape --between: two nets span a line, three a plane; got {len(models)}")
    return _named(found, plan, opened.nets, opened.name if trajectory else ", ".join(opened.labels))


def _named(found: "xr.Dataset", plan: Plan, nets: "Sequence[Checkpoint]", label: str) -> "xr.Dataset":
    """The result with its name and with what tells its nets; of several, only what tells all of them."""
    teacher = plan.opened.teacher
    told = {
        "label": label,
        "checkpoint": " ".join(net.path.name for net in nets),
        "checkpoint_sha256": " ".join(net.sha256 for net in nets),
        "model": nets[0].name,
        "teacher_sha256": teacher and teacher.sha256,
    }
    if len(nets) == 1:
        told |= {"method": nets[0].method, "epoch": nets[0].epoch, "which": nets[0].which}
        told |= {"directions": plan.directions}
    return found.assign_attrs({name: value for name, value in told.items() if value is not None})


def tell(
    plan: Plan,
    results: "Sequence[xr.Dataset]",
    *,
    venue: str,
    formats: Sequence[str] | None,
    html: bool,
    export: Sequence[str],
) -> None:
    """Write results, figures and exports, say the numbers; the journals go once their result is there."""
    from kdviz import plots

    kind = str(results[0].attrs["kind"])
    for index, result in enumerate(results):
        stem = "landscape" if len(results) == 1 else plan.opened.stems[index]
        write(result, plan.where / f"{stem}.nc")
        for suffix in export:
            _export(result, plan.where / f"{stem}.{suffix}")
    for name in (*plan.opened.stems, "joined", "compare"):
        for journal in plan.where.glob(f".{name}.points*"):
            journal.unlink()
    names = [name for name in plots.FIGURES[kind] if html or name != "html"]
    write_figures(results, names, plan.where, venue=venue, formats=formats)
    if kind == "path":
        for name, values in results[0].data_vars.items():
            if "barrier" in values.attrs:
                typer.echo(
                    f"{name}: barrier {values.attrs['barrier']:.4f} at {values.attrs['barrier_at']:.2f} of the way"
                )
    elif kind == "plane":
        _marked(results[0])
    elif kind == "landscape":
        for result in results:
            _headline(result)


def _export(result: "xr.Dataset", path: Path) -> None:
    from kdviz.analysis.landscape import interop

    typer.echo(interop.export(result, path))


def _headline(result: "xr.Dataset") -> None:
    """The numbers beside one picture."""
    from kdviz.analysis.landscape.geometry import summary

    for name, found in summary(result).items():
        typer.echo(
            f"{result.attrs['label']}: {name} {found['centre']:.4f} at the net, {found['minimum']:.4f} at the lowest"
            f" point, range {found['range']:.3g}, convex on {found['convex_share']:.0%} of the grid,"
            f" local minima: {found['minima']}"
        )


def _marked(result: "xr.Dataset") -> None:
    """The nets of a plane, each with its own loss, and what the plane has lower."""
    from kdviz.analysis.landscape.geometry import summary

    nets = zip(result["mark"].values, result["mark_loss"].values, result["mark_accuracy"].values, strict=True)
    for name, loss, accuracy in nets:
        typer.echo(f"{name}: {next(iter(result.data_vars))} {loss:.4f}, accuracy {accuracy:.1%}")
    for name, found in summary(result).items():
        typer.echo(
            f"{name} on the plane: {found['minimum']:.4f} at the lowest point, range {found['range']:.3g},"
            f" local minima: {found['minima']}"
        )


def compared(plan: Plan, planes: int, *, venue: str, formats: Sequence[str] | None) -> "list[xr.Dataset]":
    """A table of all nets over several random planes, told, written and drawn; the first plane of each net."""
    from kdviz.analysis.landscape.compare import compare, rows
    from kdviz.analysis.landscape.distributed import rank_and_world

    opened = plan.opened
    require(rank_and_world()[1] == 1, "landscape: --compare runs on one process")
    require(planes > 0, f"landscape: --planes must be above 0, got {planes}")
    simple = plan.directions == "random" and not plan.adaptive and not plan.one_d
    require(simple, "landscape: --compare goes with random planes, without --adaptive, --one-d and --directions")
    with progress("planes and spectra") as moved:
        found, many = compare(
            dict(zip(opened.labels, [net.model for net in opened.nets], strict=True)),
            opened.data,
            teacher=taught(opened),
            seeds=range(plan.seed, plan.seed + planes),
            span=plan.span,
            steps=plan.steps,
            normalize=plan.normalize,
            bn=plan.bn or "frozen",
            journal=plan.journal("compare"),
            progress=moved,
            **plan.engine,
        )
    found = _named(found, plan, opened.nets, ", ".join(opened.labels))
    table = rows(found)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        typer.echo("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    write(found, plan.where / "comparison.nc")
    write_figures([found], ["numbers"], plan.where, venue=venue, formats=formats)
    return [
        _named(one, plan, [net], label)
        for one, net, label in zip(many[::planes], opened.nets, opened.labels, strict=True)
    ]


def _different(names: list[str], otherwise: list[str]) -> list[str]:
    """The names where no two are equal, or the other ones."""
    return names if len(set(names)) == len(names) else otherwise
