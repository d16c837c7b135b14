"""Several checkpoints with the data set and the teacher that they share, and the landscapes around and between them."""

import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import xarray as xr
from torch import nn

from kdviz.analysis.landscape import paths
from kdviz.analysis.landscape.build import evaluator_of, profiles, resumed, survey
from kdviz.analysis.landscape.compare import Statistics, compare
from kdviz.analysis.landscape.engines import choose_engine
from kdviz.analysis.landscape.metrics import needs_teacher
from kdviz.analysis.landscape.options import Grid, Measurement
from kdviz.analysis.landscape.rebasin import rebasin
from kdviz.analysis.landscape.sharpness import spectral_quadrature
from kdviz.analysis.landscape.sweep import Progress
from kdviz.analysis.landscape.trajectory import trajectory
from kdviz.base.check import KdvizError, require
from kdviz.base.processes import one_process_only
from kdviz.checkpoints import Checkpoint, load_checkpoint
from kdviz.checkpoints.naming import names_of
from kdviz.checkpoints.related import load_measured_of, load_teacher_of
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.data import BoxData, Data
from kdviz.data.adapt import Adaptation
from kdviz.models.detection import is_detector


@dataclass(frozen=True, kw_only=True)
class Nets:
    """Checkpoints of one class count, opened with what they share.

    Attributes:
        checkpoints: of the nets.
        labels: their names in figures: the method, or the file where several nets are of one method.
        stems: their names in file names.
        data: the images; of detectors, with boxes.
        teacher: of the first checkpoint that names one; None where no loss needs it.
        name: of all of them together; a run's folder has its own.
    """

    checkpoints: Sequence[Checkpoint]
    labels: Sequence[str]
    stems: Sequence[str]
    data: Data | BoxData
    teacher: Checkpoint | None
    name: str

    @property
    def models(self) -> list[nn.Module]:
        """The nets themselves."""
        return [one.model for one in self.checkpoints]

    @property
    def images(self) -> Data:
        """The images of nets that give one label to each. Raises KdvizError for detectors."""
        if isinstance(self.data, BoxData):
            raise KdvizError(
                f"{self.checkpoints[0].path} is a detector, of which kdviz landscape draws the losses; paths,"
                " comparisons and spectra are of nets that give an image one label"
            )
        return self.data


def open_nets(
    files: Sequence[str | os.PathLike],
    *,
    losses: Sequence[str] = ("ce",),
    model: str | None = None,
    data: str | None = None,
    root: str | os.PathLike | None = None,
    split: str = "test",
    teacher: str | os.PathLike | None = None,
    teacher_model: str | None = None,
    weights: str | None = None,
    adaptation: Adaptation | None = None,
) -> Nets:
    """Checkpoints, or runs' folders (their last epoch), one data set and, where a loss needs it, one teacher for all.

    Args:
        files: checkpoints (as FILE@MODEL with an architecture of their own) or runs' folders.
        losses: what will be measured.
        model: architecture, where a file does not say.
        data, root, split: the data set [default: that of the first checkpoint], its folder, its part.
        teacher: its checkpoint [default: that of the first checkpoint that names or holds one].
        teacher_model: the teacher's architecture, where its file does not say.
        weights: "raw" or "ema", where files hold both.
        adaptation: what of the data set is taken otherwise than it says.
    Raises:
        KdvizError: checkpoints of different class counts, detectors beside other nets; as `load_checkpoint`,
            `load_measured_of`, `load_teacher_of`.
    """
    opened = [load_checkpoint(file, model=model, weights=weights) for file in files]
    for one in opened[1:]:
        require(
            one.classes == opened[0].classes,
            f"{one.path} has {one.classes} classes but {opened[0].path} has {opened[0].classes};"
            " name nets of one data set",
        )
        require(
            is_detector(one.name) == is_detector(opened[0].name),
            f"{opened[0].path} is a {opened[0].name} and {one.path} a {one.name}; a detector and a classifier have no"
            " losses in common",
        )
    stems = names_of(opened)
    images = load_measured_of(opened[0], data, root=root, split=split, adaptation=adaptation)
    taught = isinstance(images, Data) and needs_teacher(losses)
    labels = [one.method or stem for one, stem in zip(opened, stems, strict=True)]
    return Nets(
        checkpoints=opened,
        labels=labels if len(set(labels)) == len(labels) else stems,
        stems=stems,
        data=images,
        teacher=_teacher(opened, teacher, teacher_model) if taught else None,
        name="_".join(stems),
    )


def open_epochs(run: str | os.PathLike, *, losses: Sequence[str] = ("ce",), **options: Any) -> Nets:
    """The kept epochs of a run (`kdviz train ... --keep-epochs 1`), in order.

    Args:
        run: its folder.
        losses: what will be measured.
        options: the others of `open_nets`.

    Raises:
        KdvizError: fewer than three kept epochs; as `open_nets`.
    """
    kept, hint = RunFolder(Path(run)).kept, "train with --keep-epochs 1"
    require(len(kept) >= 3, f"{run}: needs three or more kept epochs in epochs/, found {len(kept)}; {hint}")
    return replace(open_nets(kept, losses=losses, **options), name=Path(run).resolve().name)


def _teacher(students: Sequence[Checkpoint], path: str | os.PathLike | None, model: str | None) -> Checkpoint | None:
    """The teacher at `path`, or that of the first student that has one."""
    found = (load_teacher_of(one, path, model=model) for one in students)
    return next((one for one in found if one is not None), None)


def around_net(
    nets: Nets,
    index: int,
    measurement: Measurement,
    grid: Grid,
    *,
    lines: int = 0,
    refine: bool = False,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> xr.Dataset | None:
    """The plane, line or ensemble of lines around one of the nets, with the names of its checkpoint.

    Args:
        nets, index: which net.
        measurement: its teacher is that of `nets`, unless it names one.
        grid: as `survey`.
        lines: so many random lines instead of a plane, from the grid's seed on.
        refine: measure a third of the points, interpolate the others.
        journal: a file (of lines: the start of the names of files) that keeps finished points.
        progress: called with (points done, points in all).
    Returns:
        The result; None on ranks of torchrun but the first.
    """
    measured = replace(measurement, teacher=measurement.teacher or nets.teacher)
    first = f"{os.fspath(journal)}.seed{grid.seed}" if journal and lines else journal
    evaluator = evaluator_of(nets.checkpoints[index].model, nets.data, resumed(measured, first))
    engine = choose_engine(refine=refine)
    if lines:
        seeds = range(grid.seed, grid.seed + lines)
        found = profiles(evaluator, grid, seeds=seeds, journal=journal, progress=progress, engine=engine)
    else:
        found = survey(evaluator, grid, journal=journal, progress=progress, engine=engine)
    if found is None:
        return None
    directions = grid.directions if isinstance(grid.directions, str) else "given"
    return named(found, nets, index).assign_attrs(directions=directions)


def between_nets(
    nets: Nets,
    measurement: Measurement,
    grid: Grid,
    *,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """The line through two nets or the plane through three, with the names of their checkpoints.

    Raises:
        KdvizError: another number of nets, several processes; as `paths.interpolation` and `paths.plane`.
    """
    one_process_only("path")
    measured = resumed(replace(measurement, teacher=measurement.teacher or nets.teacher), journal)
    kept = {"labels": nets.labels, "journal": journal, "progress": progress}
    if len(nets.models) == 2:
        first, second = nets.models
        return named(paths.interpolation(first, second, nets.images, measured, grid, **kept), nets)
    if len(nets.models) == 3:
        return named(paths.plane(nets.models, nets.images, measured, grid, **kept), nets)
    raise KdvizError(f"path: two nets span a line, three a plane; got {len(nets.models)}")


def rebasined(nets: Nets) -> Nets:
    """The nets with the channels of all but the first in the order of the first's; see `rebasin`.

    Raises:
        KdvizError: nets of different forms; as `rebasin`.
    """
    first, *others = nets.checkpoints
    moved = [first]
    for one in others:
        model = deepcopy(one.model)
        model.load_state_dict(rebasin(first.model, one.model))
        moved.append(replace(one, model=model))
    return replace(nets, checkpoints=moved)


def along_run(
    nets: Nets,
    measurement: Measurement,
    grid: Grid,
    *,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """A run's kept epochs on the plane of their principal components, with the names of their checkpoints.

    Raises:
        KdvizError: several processes; as `trajectory`.
    """
    one_process_only("path")
    measured = resumed(replace(measurement, teacher=measurement.teacher or nets.teacher), journal)
    epochs = [one.epoch if one.epoch is not None else at for at, one in enumerate(nets.checkpoints)]
    found = trajectory(nets.models, nets.images, measured, grid, epochs=epochs, journal=journal, progress=progress)
    return named(found, nets).assign_attrs(label=nets.name)


def compare_nets(
    nets: Nets,
    measurement: Measurement,
    grid: Grid,
    statistics: Statistics = Statistics(),
    *,
    planes: int = 3,
    journal: str | os.PathLike | None = None,
    progress: Progress | None = None,
) -> tuple[xr.Dataset, list[xr.Dataset]]:
    """The comparison of the nets and the first plane of each, with the names of their checkpoints; see `compare`.

    Raises:
        KdvizError: several processes; as `compare`.
    """
    one_process_only("compare")
    measured = replace(measurement, teacher=measurement.teacher or nets.teacher)
    models = dict(zip(nets.labels, nets.models, strict=True))
    given = {"planes": planes, "journal": journal, "progress": progress}
    found, surveyed = compare(models, nets.images, measured, grid, statistics, **given)
    first = [named(one, nets, index) for index, one in enumerate(surveyed[::planes])]
    return named(found, nets), first


def spectral_quadratures(
    nets: Nets,
    *,
    settings: Mapping[str, Any],
    device: str | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> list[xr.Dataset]:
    """The quadrature of every net's Hessian with the names of its checkpoint; see `spectral_quadrature`.

    Args:
        nets: of one data set.
        settings: of the loss, {"kd.temperature": 2.0} or {"temperature": 2.0}.
        device: where to run [default: the CPU].
        progress: called with (products done, products in all).
        options: loss, samples, probes, iterations and seed of `spectral_quadrature`.
    Raises:
        KdvizError: several processes; as `spectral_quadrature`.
    """
    one_process_only("spectrum")
    known = {key.rpartition(".")[2]: value for key, value in settings.items()}
    found = []
    for index, model in enumerate(nets.models):
        step = None if progress is None else lambda k, n, i=index: progress(i * n + k, n * len(nets.models))
        placed = deepcopy(model).to(device) if device else model
        kept = {"settings": known, "progress": step, **options}
        found.append(named(spectral_quadrature(placed, nets.images, teacher=_of_nets(nets), **kept), nets, index))
    return found


def _of_nets(nets: Nets) -> nn.Module | None:
    return None if nets.teacher is None else nets.teacher.model


def named(found: xr.Dataset, nets: Nets, index: int | None = None) -> xr.Dataset:
    """The result with its label and its checkpoints: of one net, or of all with what they have in common."""
    chosen = list(nets.checkpoints) if index is None else [nets.checkpoints[index]]
    facts = {
        "label": ", ".join(nets.labels) if index is None else nets.labels[index],
        "checkpoint": " ".join(one.path.name for one in chosen),
        "checkpoint_sha256": " ".join(one.sha256 for one in chosen),
        "model": chosen[0].name,
        "teacher_sha256": nets.teacher and nets.teacher.sha256,
    }
    if index is not None:
        facts |= {"method": chosen[0].method, "epoch": chosen[0].epoch, "which": chosen[0].which}
    return found.assign_attrs({name: value for name, value in facts.items() if value is not None})
