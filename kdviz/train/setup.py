"""From a recipe to a run that can take its first step: data, nets, method, optimizer, all checked."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdviz.base.check import KdvizError, require
from kdviz.checkpoints import Checkpoint
from kdviz.checkpoints.related import own_constants
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.data import BoxData, Data
from kdviz.data.adapt import constants
from kdviz.data.augment import PADDING, count_views
from kdviz.losses import validate_logits
from kdviz.methods import METHODS, Batch, Objective, Probe, canonical
from kdviz.methods import build as build_objective
from kdviz.models import Outputs
from kdviz.models import build as build_model
from kdviz.models.detection import is_detector
from kdviz.models.features import with_features
from kdviz.models.view import see
from kdviz.train.batches import Batches, batches_of
from kdviz.train.device import choose_device, choose_precision, loss_scaler
from kdviz.train.distributed import ALONE, Exchange, Ranks, Together
from kdviz.train.ema import averaged
from kdviz.train.optim import build_optimizer, can_be_captured, parameter_groups
from kdviz.train.outputs import FEATURES, probe_outputs
from kdviz.train.recipe import OF_BACKBONES, Recipe
from kdviz.train.score import evaluate_by_class
from kdviz.train.splits import test_split, training_split, validation_split
from kdviz.train.step import Step
from kdviz.train.sync_bn import synchronize
from kdviz.train.teacher_table import TeacherTable


@dataclass(frozen=True, eq=False)
class Run:
    """What the loop works on; its settings are fixed, the tensors inside it move.

    Attributes:
        folder: where it is written.
        student: the net itself, whose weights are saved; `step` may hold a compiled form of it.
        val: held out of train; None where the recipe holds nothing out.
        test: measured after the last epoch, and every `recipe.score_every` epochs.
        table: the teacher's logits, shared with other runs; None where the teacher runs in every step.
        live: why it does although a table was asked for, in words.
        record: what every checkpoint of the run says of itself.
        workers: processes that read images, where these stay in files.
        ranks: the processes of torchrun that train it together.
        score: measures a net on a split: (net, split, workers=) -> (numbers by name, the same of each class).
        chosen_by: the number that the best epoch has the most of.
        shares_score: whether all ranks take part in `score`; else the first alone measures.
        notes: what is said before the first step, a line each.
    """

    recipe: Recipe
    folder: RunFolder
    student: nn.Module
    step: Step
    batches: Batches
    val: Data | BoxData | None
    test: Data | BoxData
    table: TeacherTable | None
    record: dict[str, Any]
    workers: int = 0
    live: str | None = None
    ranks: Ranks = ALONE
    score: Callable[..., tuple[dict[str, float], list[float | None]]] = evaluate_by_class
    chosen_by: str = "top1"
    shares_score: bool = False
    notes: tuple[str, ...] = ()

    @property
    def measures(self) -> bool:
        """Whether this process takes part in measuring."""
        return self.ranks.first or self.shares_score

    @property
    def objective(self) -> Objective:
        return self.step.objective

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.step.optimizer


@dataclass(frozen=True)
class Machine:
    """Where a run computes and reads, which leaves its result as it is.

    Attributes:
        root: folder of the data set's files.
        device: "cpu", "cuda", ...; None: a GPU where there is one.
        teacher_cache: folder in which runs over the same images share the teacher's logits.
        workers: processes that read images, where these stay in files.
        damaged: "refuse" or "replace", what to do with an image file that cannot be read.
        ranks: the processes that train the run together.
    """

    root: Path | None = None
    device: str | None = None
    teacher_cache: Path | None = None
    workers: int = 0
    damaged: str = "refuse"
    ranks: Ranks = ALONE


def prepare(recipe: Recipe, folder: RunFolder, *, teacher: Checkpoint | None, **settings: Any) -> Run:
    """The run of a recipe, as `kdviz.train.train` describes it, before its first step; `settings` are of `Machine`.

    Raises: KdvizError: a missing or mismatched teacher, a data set that is not there, a method that the nets cannot
        serve, logits that are not finite.
    """
    machine = Machine(**settings)
    if is_detector(recipe.student):
        from kdviz.train.detection import prepare_detector

        return prepare_detector(recipe, folder, teacher=teacher, machine=machine)
    require(
        "boxes" not in needs_of(recipe.method),
        f"train: {recipe.method} is of detectors, but {recipe.student} is none; say --student fasterrcnn_resnet18_fpn",
    )
    of_detectors = ("iterations", "backbone", *OF_BACKBONES)
    unset = {name: getattr(recipe, name) is None for name in of_detectors} | {"augment=flip": recipe.augment != "flip"}
    for setting, ok in unset.items():
        require(ok, f"train: {setting} is of detectors, but {recipe.student} is none")
    where = choose_device(machine.device)
    precision = choose_precision(recipe.precision, where)
    data = training_split(recipe, machine.root)
    test = test_split(recipe, machine.root)
    student = build_model(recipe.student, classes=data.classes, seed=recipe.seed, drop_path=recipe.drop_path)
    student = student.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    if recipe.sync_bn:
        student = synchronize(student, where)
    if recipe.student_size:
        see(student, size=recipe.student_size)
    seen = with_features(student, recipe.features_at) if recipe.features_at else student
    frozen = None
    if "teacher" in needs_of(recipe.method):
        frozen = frozen_teacher(recipe, teacher, data, where)
        frozen = with_features(frozen, recipe.teacher_features_at) if recipe.teacher_features_at else frozen
    ranks = machine.ranks
    batches = batches_of(recipe, data, where, workers=machine.workers, damaged=machine.damaged, ranks=ranks)
    objective = _objective(recipe, seen, teacher if frozen is not None else None, frozen, batches)
    if recipe.sync_bn and not objective.couples:  # a method that gathers sees the whole batch anyway
        synchronize(objective, where)
    batches = batches.with_strong_view("strong" in objective.needs)
    called = torch.compile(seen) if recipe.compile else seen
    step = Step(
        student,
        called,
        frozen,
        objective,
        optimizer_of(recipe, where, student, objective),
        precision,
        parts=recipe.accumulate,
        clip=recipe.clip_grad,
        average=averaged(student) if recipe.ema else None,
        decay=recipe.ema,
        scaler=loss_scaler(precision, where),
    )
    if ranks.world > 1 and isinstance(called, nn.Module):
        sample = sample_of(batches)
        together = Together(called, objective, precision, ranks)
        step = replace(step, exchange=Exchange(together, recipe.accumulate, (sample, step.teach(sample))))
    record = record_of(recipe, data, objective, teacher if frozen is not None else None, precision)
    table, live = None, None
    if machine.teacher_cache is not None and frozen is not None:
        live = live_teacher(recipe, objective, batches)
        if live is None:
            table = open_table(machine.teacher_cache, batches, teacher_key(recipe, teacher), precision)
    val = validation_split(recipe, machine.root)
    return Run(recipe, folder, student, step, batches, val, test, table, record, machine.workers, live, ranks)


def sample_of(batches: Batches) -> Batch:
    """Two training images as a batch."""
    images, labels = batches.first(2)
    ids = batches.plan(0).order[:2]
    return Batch(images, labels, ids, images if batches.strong_view else None)


def _probed(who: str, net: nn.Module, images: Tensor) -> Outputs:
    """The net's outputs for two images. Raises KdvizError where it cannot take images of this size."""
    try:
        return probe_outputs(net, images)
    except (RuntimeError, ValueError, AssertionError) as error:
        size, said = "x".join(map(str, images.shape[1:])), (str(error).splitlines() or [type(error).__name__])[0]
        raise KdvizError(
            f"train: the {who} cannot take images of {size} ({said}); {who}_size = SIDE resizes them for it alone"
        ) from error


def live_teacher(recipe: Recipe, objective: Objective, batches: Batches) -> str | None:
    """Why the teacher runs in every step although a table is given, in words; None where the table serves."""
    features = sorted(objective.needs & FEATURES)
    if features:
        return f"{recipe.method} compares the teacher's {' and '.join(features)}"
    if "strong" in objective.needs:
        return f"{recipe.method} needs the teacher's logits of a strong view, which is new in every epoch"
    if batches.images is None or not recipe.views_are_countable:
        return "the training images are changed at random in more ways than a table can hold"
    return None


def teacher_key(recipe: Recipe, teacher: Checkpoint | None) -> str:
    """What tells the logits of one teacher from another's in the table: its file, and how it sees the images."""
    assert teacher is not None
    view = [str(part) for part in (recipe.teacher_size, recipe.teacher_normalization) if part not in (None, "data")]
    return "/".join([teacher.sha256, *view])


def optimizer_of(recipe: Recipe, device: torch.device, *modules: nn.Module) -> torch.optim.Optimizer:
    """The recipe's optimizer over what can be trained of the student and the method."""
    groups = parameter_groups(*modules, weight_decay=recipe.weight_decay, no_decay=recipe.no_decay)
    return build_optimizer(
        groups,
        name=recipe.optimizer,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        captured=device.type == "cuda" and can_be_captured(recipe.optimizer),
    )


def needs_of(spec: str) -> frozenset[str]:
    """What the terms of a method, or of several joined by "+", read: a subset of `kdviz.methods.term.NEEDS`."""
    return frozenset().union(*(METHODS[name].needs for name in canonical(spec).split("+")))


def _objective(
    recipe: Recipe, student: nn.Module, teacher: Checkpoint | None, frozen: nn.Module | None, batches: Batches
) -> Objective:
    """The method, built for the shapes that both nets show on two images, which are validated here so that no later
    step has to wait for the device."""
    images, labels = batches.first(2)
    learnt = _probed("student", student, images)
    taught = None if frozen is None else _probed("teacher", frozen, images)
    validate_logits(learnt.logits, None if taught is None else taught.logits, labels, who="train")
    probe = Probe(learnt, taught, batches.data.classes, batches.labels, recipe.seed, frozen)
    objective = build_objective(
        recipe.method,
        classes=batches.data.classes,
        student=recipe.student,
        teacher=teacher.name if teacher else None,
        settings=recipe.settings,
        probe=probe,
    ).to(batches.device)
    of_one = objective.of_one_class() if recipe.mixes else []
    require(
        not of_one,
        f"train: mixup and cutmix make images of two classes, but {', '.join(of_one)} compares with one;"
        " leave them at 0",
    )
    require(
        not recipe.label_smoothing or "ce" in objective.weights,
        f"train: label_smoothing changes the targets of cross-entropy, which {recipe.method} does not have;"
        " leave it at 0",
    )
    return objective


def open_table(folder: Path, batches: Batches, key: str, precision: str) -> TeacherTable:
    """The table of a teacher's logits over the training split and its views; `key` is of `teacher_key`."""
    cropped = batches.recipe.augment == "crop"
    views = count_views(PADDING, batches.data.flip) if cropped else 1
    return TeacherTable(
        folder,
        teacher_sha256=key,
        data_sha256=batches.data.sha256,
        precision=precision,
        padding=PADDING if cropped else 0,
        shape=(len(batches.data), views, batches.data.classes),
        device=batches.device,
    )


def record_of(
    recipe: Recipe, data: Data | BoxData, objective: Objective, teacher: Checkpoint | None, precision: str
) -> dict[str, Any]:
    """What every checkpoint of a run says of itself."""
    normalization = {"mean": list(data.mean), "std": list(data.std)}
    named = teacher and {"path": str(teacher.path), "sha256": teacher.sha256, "name": teacher.name}
    return {
        "name": recipe.student,
        "classes": data.classes,
        "data": recipe.data,
        "method": recipe.method,
        "seed": recipe.seed,
        "teacher": named,
        "recipe": {
            **recipe.result(),
            "precision": precision,
            "settings": objective.settings,
            "normalization": normalization,
            "data_sha256": data.sha256,
        },
    }


def frozen_teacher(recipe: Recipe, teacher: Checkpoint | None, data: Data | BoxData, device: torch.device) -> nn.Module:
    """The teacher, frozen and on the device, seeing images as the recipe says.

    Raises: KdvizError: no teacher, one of another data set, or one trained with other constants than the data's, unless
        the recipe normalises anew for it.
    """
    if teacher is None:
        raise KdvizError("the method needs a teacher; give its checkpoint with --teacher")
    require(
        teacher.classes == data.classes,
        f"the teacher {teacher.path} has {teacher.classes} classes but {data.name} has {data.classes};"
        " use a teacher that was trained on this data set",
    )
    anew = recipe.teacher_normalization == "own"
    own = own_constants(teacher) if anew else constants(teacher.recipe.get("normalization"))
    require(
        own is not None or not anew,
        f"the teacher {teacher.path} does not say how its images were normalised; leave teacher_normalization at data",
    )
    if own is not None and teacher.data is not None and not anew:
        near = all(
            math.isclose(a, b, abs_tol=1e-3)
            for constants, expected in zip(own, (data.mean, data.std), strict=True)
            for a, b in zip(constants, expected, strict=True)
        )
        require(
            near,
            f"the teacher {teacher.path} was trained with mean {tuple(own[0])}, std {tuple(own[1])}, but {data.name}"
            f" has mean {data.mean}, std {data.std}; the two must agree, or teacher_normalization must be own, which"
            " normalises the images anew for it",
        )
    seen_otherwise = bool(recipe.teacher_size) or anew
    own_net = copy.deepcopy(teacher.model) if seen_otherwise else teacher.model  # the caller's net keeps its view
    net = own_net.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore
    if seen_otherwise:
        see(net, size=recipe.teacher_size, given=(data.mean, data.std) if anew else None, own=own if anew else None)
    return net
