"""What `kdviz landscape` does with its words: open, sweep with a journal, write, draw, compare."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from kdviz.base.check import KdvizError, one_of, require
from kdviz.cli.common import folder, open_checkpoint, open_data, open_teacher, progress, write, write_figures

if TYPE_CHECKING:
    import xarray as xr

    from kdviz.checkpoints import Checkpoint
    from kdviz.data import Data


@dataclass(frozen=True)
class Opened:
    """The nets of a call with their names, the data and the teacher that they share."""

    nets: list["Checkpoint"]
    labels: list[str]
    data: "Data"
    teacher: "Checkpoint | None"
    name: str


@dataclass(frozen=True, kw_only=True)
class _Settings:
    bn: str | None
    span: float
    steps: int
    seed: int
    normalize: str
    directions: str
    adaptive: bool
    out: Path | None


@dataclass(frozen=True)
class Plan(_Settings):
    """Everything that a call of the command decided."""

    opened: Opened
    engine: dict[str, Any]

    @property
    def where(self) -> Path:
        return folder(f"landscape_{self.opened.name}", self.out)

    def journal(self, name: str) -> Path:
        """The file that keeps finished points until the result is written."""
        self.where.mkdir(parents=True, exist_ok=True)
        return self.where / f".{name}.journal"

    def teacher_model(self) -> Any:
        return self.opened.teacher.model if self.opened.teacher else None


def open_all(
    paths: Sequence[Path], trajectory: bool, model: str | None, data: str | None, root: Path | None, split: str,
    teacher: Path | None,
) -> Opened:  # fmt: skip
    """The checkpoints (or a run's epochs), one data set and one teacher for all."""
    files = list(paths)
    if trajectory:
        require(len(paths) == 1, f"landscape --trajectory: expected one run's folder, got {len(paths)} paths")
        files = sorted((paths[0] / "epochs").glob("epoch_*.pt"))
        hint = "train with --keep-epochs 1"
        require(len(files) >= 3, f"{paths[0]}: needs three or more kept epochs in epochs/, found {len(files)}; {hint}")
    nets = [open_checkpoint(path, model) for path in files]
    labels = [net.method or net.path.stem for net in nets]
    if len(set(labels)) < len(labels):
        labels = [net.path.stem for net in nets]
    data_set = open_data(nets[0], data, root, split)
    for net in nets[1:]:
        require(
            net.classes == nets[0].classes,
            f"{net.path} has {net.classes} classes but {nets[0].path} has {nets[0].classes}; draw them apart",
        )
    taught = open_teacher(nets[0], teacher) if teacher or nets[0].teacher else None
    name = paths[0].name if trajectory else "_".join(dict.fromkeys(path.stem for path in files))
    return Opened(nets, labels, data_set, taught, name)


def around(plan: Plan, net: "Checkpoint") -> "xr.Dataset | None":
    """The plane around one net; None on ranks that only helped."""
    from kdviz.analysis.landscape import Evaluator, axis, describe
    from kdviz.analysis.landscape.adaptive import adaptive
    from kdviz.analysis.landscape.distributed import distributed_sweep, local_device, rank_and_world
    from kdviz.analysis.landscape.sweep import sweep

    _, world = rank_and_world()
    require(world == 1 or not plan.adaptive, "landscape: --adaptive decides point by point; run it on one process")
    label = plan.opened.labels[plan.opened.nets.index(net)]
    journal, coordinates = plan.journal(net.path.stem), axis(plan.span, plan.steps)
    evaluator = Evaluator(
        net.model, plan.opened.data, teacher=plan.teacher_model(), bn=plan.bn or "frozen", seed=plan.seed,
        **({"device": local_device()} if local_device() != "cpu" else {}), **plan.engine,
    )  # fmt: skip
    evaluator.attrs |= {"seed": plan.seed, "normalize": plan.normalize, "span": plan.span, "steps": plan.steps}
    pair = _directions(plan, net, evaluator)
    run = adaptive if plan.adaptive else distributed_sweep if world > 1 else sweep
    with progress(f"landscape of {label}") as moved:
        found = run(evaluator, evaluator.weights, pair, coordinates, coordinates, journal=journal, progress=moved)
    if found is None:
        return None
    return _named(describe(found, evaluator, pair), plan, net, label)


def _directions(plan: Plan, net: "Checkpoint", evaluator: Any) -> Any:
    from kdviz.analysis.landscape import random_pair

    one_of("landscape", ("random", "hessian"), directions=plan.directions)
    if plan.directions == "random":
        return random_pair(evaluator.weights, seed=plan.seed, normalize=plan.normalize)
    from kdviz.analysis.landscape.sharpness import hessian

    _, vectors = hessian(net.model, plan.opened.data, eigenvalues=2, probes=0, samples=plan.engine["samples"])
    # A unit vector is shorter than anything that training moves: as long as the weights, like a random direction.
    length = sum(float(tensor.double().square().sum()) for tensor in evaluator.weights.values()) ** 0.5
    return tuple({name: tensor * length for name, tensor in vector.items()} for vector in vectors[:2])


def lines(plan: Plan, net: "Checkpoint", count: int) -> "xr.Dataset":
    """An ensemble of random lines through one net."""
    from kdviz.analysis.landscape import Evaluator, profiles

    label = plan.opened.labels[plan.opened.nets.index(net)]
    evaluator = Evaluator(
        net.model, plan.opened.data, teacher=plan.teacher_model(), bn=plan.bn or "frozen", seed=plan.seed, **plan.engine
    )
    with progress(f"lines through {label}") as moved:
        found = profiles(
            evaluator, span=plan.span, steps=plan.steps, seeds=range(plan.seed, plan.seed + count),
            normalize=plan.normalize, journal=plan.journal(net.path.stem), progress=moved,
        )  # fmt: skip
    return _named(found, plan, net, label)


def joined(plan: Plan, trajectory: bool) -> "xr.Dataset":
    """The line or plane through the nets, or a run's trajectory."""
    from kdviz.analysis.landscape import paths

    opened, models = plan.opened, [net.model for net in plan.opened.nets]
    options: dict[str, Any] = {"journal": plan.journal("joined"), "teacher": plan.teacher_model(), **plan.engine}
    if plan.bn:
        options["bn"] = plan.bn
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
    return _named(found, plan, opened.nets[-1 if trajectory else 0], opened.name)


def _named(found: "xr.Dataset", plan: Plan, net: "Checkpoint", label: str) -> "xr.Dataset":
    taught = plan.opened.teacher
    found.attrs |= {
        "label": label, "checkpoint": net.path.name, "checkpoint_sha256": net.sha256, "model": net.name,
        "directions": plan.directions, **({"teacher_sha256": taught.sha256} if taught else {}),
    }  # fmt: skip
    return found


def tell(
    plan: Plan, results: "Sequence[xr.Dataset]", *, venue: str, formats: Sequence[str] | None, html: bool,
    export: Sequence[str], compare: bool,
) -> None:  # fmt: skip
    """Write results, figures, exports and the table; the journals go once their result is there."""
    from kdviz.plots import FIGURES

    for result in results:
        stem = "landscape" if len(results) == 1 else Path(result.attrs["checkpoint"]).stem
        write(result, plan.where / f"{stem}.nc")
        for kind in export:
            _export(result, kind, plan.where / stem)
        if result.attrs["kind"] == "landscape":
            _headline(result)
    for journal in plan.where.glob(".*.journal*"):
        journal.unlink()
    kind = results[0].attrs["kind"]
    names = [name for name in FIGURES[kind] if name != "html"] + (["html"] if html and kind == "landscape" else [])
    write_figures(list(results), names, plan.where, venue=venue, formats=formats)
    if compare:
        _compare(plan, results)


def _headline(result: "xr.Dataset") -> None:
    from kdviz.analysis.landscape.geometry import summary

    for name, found in summary(result).items():
        typer.echo(
            f"{result.attrs['label']}: {name} {found['centre']:.4f} at the net, {found['minimum']:.4f} at the lowest"
            f" point, range {found['range']:.3g}, convex on {found['convex_share']:.0%} of the grid,"
            f" {found['minima']} local minima"
        )


def _export(result: "xr.Dataset", kind: str, stem: Path) -> None:
    from kdviz.analysis.landscape import neighbours

    one_of("landscape --export", neighbours.FORMATS, format=kind)
    typer.echo(neighbours.export(result, stem.with_name(f"{stem.name}.{kind}")))


def _compare(plan: Plan, results: "Sequence[xr.Dataset]") -> None:
    """Sharpness at the centre beside the geometry of the plane, one row per net; also as compare.json."""
    from kdviz.analysis.landscape.geometry import summary
    from kdviz.analysis.landscape.sharpness import sharpness

    rows = []
    for net, label, result in zip(plan.opened.nets, plan.opened.labels, results, strict=False):
        with progress(f"sharpness of {label}") as moved:
            sharp = sharpness(
                net.model, plan.opened.data, eigenvalues=1, probes=10, samples=plan.engine["samples"], progress=moved
            )
        found = next(iter(summary(result).values())) if "beta" in result.dims else {}
        rows.append({
            "net": label, "top_eigenvalue": float(sharp.eigenvalue[0]), "trace": float(sharp.trace),
            "trace_stderr": float(sharp.trace_stderr), **found,
        })  # fmt: skip
    path = plan.where / "compare.json"
    path.write_text(json.dumps(rows, indent=2) + "\n")
    head = ("net", "top eigenvalue", "trace", "convex", "flat radius", "minima", "2nd persistence")
    typer.echo("  ".join(f"{name:>15}" for name in head))
    for row in rows:
        cells = [row["net"], f"{row['top_eigenvalue']:.4g}", f"{row['trace']:.4g} ± {row['trace_stderr']:.2g}"]
        if "convex_share" in row:
            cells += [
                f"{row['convex_share']:.0%}", f"{row['flatness_radius']:.3f}", str(row["minima"]),
                f"{row['second_persistence']:.2g}",
            ]  # fmt: skip
        typer.echo("  ".join(f"{cell:>15}" for cell in cells))
    typer.echo(path)
