"""From a recipe to a run that can take its first step: data, nets, method, optimizer, all checked."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from kdviz.base.check import KdvizError, require
from kdviz.checkpoints import Checkpoint
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.data import Data, load_data
from kdviz.data.augment import PADDING, count_views
from kdviz.losses import validate_logits
from kdviz.methods import METHODS, Objective, Probe, canonical
from kdviz.methods import build as build_objective
from kdviz.models import build as build_model
from kdviz.models.features import with_features
from kdviz.train.batches import Batches, resident, training_split
from kdviz.train.device import choose_device, choose_precision
from kdviz.train.optim import build_optimizer, parameter_groups
from kdviz.train.outputs import FEATURES, probe_outputs
from kdviz.train.recipe import Recipe
from kdviz.train.step import Step
from kdviz.train.teacher_table import TeacherTable


@dataclass(frozen=True)
class Run:
    """What the loop works on; its settings are fixed, the tensors inside it move.

    Attributes:
        folder: where it is written.
        student: the net itself, whose weights are saved; `step` may hold a compiled form of it.
        val: held out of train; None where the recipe holds nothing out.
        test: measured after the last epoch, and every `recipe.score_every` epochs.
        table: the teacher's logits, shared with other runs; None where the teacher runs in every step.
        record: what every checkpoint of the run says of itself.
    """

    recipe: Recipe
    folder: RunFolder
    student: nn.Module
    step: Step
    batches: Batches
    val: Data | None
    test: Data
    table: TeacherTable | None
    record: dict[str, Any]

    @property
    def objective(self) -> Objective:
        return self.step.objective

    @property
    def optimizer(self) -> torch.optim.Optimizer:
        return self.step.optimizer


def prepare(
    recipe: Recipe,
    folder: RunFolder,
    *,
    teacher: Checkpoint | None,
    root: Path | None = None,
    device: str | None = None,
    teacher_cache: Path | None = None,
) -> Run:
    """The run of a recipe, as `kdviz.train.train` describes it, before its first step.

    Raises: KdvizError: a missing or mismatched teacher, a data set that is not there, a method that the nets cannot
        serve, logits that are not finite.
    """
    where = choose_device(device)
    precision = choose_precision(recipe.precision, where)
    data = training_split(recipe, root)
    student = build_model(recipe.student, classes=data.classes, seed=recipe.seed)
    student = student.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]
    seen = with_features(student, recipe.features_at) if recipe.features_at else student
    frozen = None
    if "teacher" in _needs(recipe.method):
        frozen = frozen_teacher(teacher, data, where)
        frozen = with_features(frozen, recipe.teacher_features_at) if recipe.teacher_features_at else frozen
    batches = resident(recipe, data, where)
    objective = _objective(recipe, seen, teacher if frozen is not None else None, frozen, batches)
    batches = batches.with_strong_view("strong" in objective.needs)
    step = Step(
        torch.compile(seen) if recipe.compile else seen,
        frozen,
        objective,
        _optimizer(recipe, student, objective),
        precision,
    )
    shared = teacher_cache is not None and frozen is not None and not objective.needs & {*FEATURES, "strong"}
    return Run(
        recipe,
        folder,
        student,
        step,
        batches,
        load_data(recipe.data, split="val", root=root) if recipe.holdout else None,
        load_data(recipe.data, split="test", root=root),
        open_table(teacher_cache, batches, teacher.sha256, precision) if shared else None,  # type: ignore
        _record(recipe, data, objective, teacher if frozen is not None else None),
    )


def _optimizer(recipe: Recipe, *modules: nn.Module) -> torch.optim.Optimizer:
    groups = parameter_groups(*modules, weight_decay=recipe.weight_decay)
    settings = {"lr": recipe.lr, "momentum": recipe.momentum, "nesterov": recipe.nesterov}
    return build_optimizer(groups, name=recipe.optimizer, **settings)


def _needs(spec: str) -> frozenset[str]:
    return frozenset().union(*(METHODS[name].needs for name in canonical(spec).split("+")))


def _objective(
    recipe: Recipe, student: nn.Module, teacher: Checkpoint | None, frozen: nn.Module | None, batches: Batches
) -> Objective:
    """The method, built for the shapes that both nets show on two images of the first batch, which is validated here
    so that no later step has to wait for the device."""
    batch = batches.get(batches.plan(0), 0)
    images, labels = batch.images[:2], batch.labels[:2]
    learnt = probe_outputs(student, images)
    taught = None if frozen is None else probe_outputs(frozen, images)
    validate_logits(learnt.logits, None if taught is None else taught.logits, labels, who="train")
    probe = Probe(learnt, taught, batches.data.classes, batches.labels, recipe.seed, frozen)
    return build_objective(
        recipe.method,
        classes=batches.data.classes,
        student=recipe.student,
        teacher=teacher.name if teacher else None,
        settings=recipe.settings,
        probe=probe,
    ).to(batches.device)


def open_table(folder: Path, batches: Batches, teacher_sha256: str, precision: str) -> TeacherTable:
    """The table of a teacher's logits over the training split and its views."""
    cropped = batches.recipe.augment == "crop"
    views = count_views(PADDING, batches.data.flip) if cropped else 1
    return TeacherTable(
        folder,
        teacher_sha256=teacher_sha256,
        data_sha256=batches.data.sha256,
        precision=precision,
        padding=PADDING if cropped else 0,
        shape=(len(batches.data), views, batches.data.classes),
        device=batches.device,
    )


def _record(recipe: Recipe, data: Data, objective: Objective, teacher: Checkpoint | None) -> dict[str, Any]:
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
            "settings": objective.settings,
            "normalization": normalization,
            "data_sha256": data.sha256,
        },
    }


def frozen_teacher(teacher: Checkpoint | None, data: Data, device: torch.device) -> nn.Module:
    """The teacher, frozen and on the device, once its classes and normalisation agree with the data's.

    Raises: KdvizError: no teacher, or one of another data set.
    """
    if teacher is None:
        raise KdvizError("the method needs a teacher; give its checkpoint with --teacher")
    require(
        teacher.classes == data.classes,
        f"the teacher {teacher.path} has {teacher.classes} classes but {data.name} has {data.classes};"
        " use a teacher that was trained on this data set",
    )
    normalization = teacher.recipe.get("normalization")
    if normalization and teacher.data is not None:
        near = all(
            math.isclose(a, b, abs_tol=1e-3)
            for key, own in (("mean", data.mean), ("std", data.std))
            for a, b in zip(normalization[key], own, strict=True)
        )
        require(
            near,
            f"the teacher {teacher.path} was trained with {normalization} but {data.name} has mean {data.mean},"
            f" std {data.std}; both nets see the same batch, so the two must agree",
        )
    return teacher.model.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore
