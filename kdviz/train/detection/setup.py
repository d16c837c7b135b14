"""From a recipe to a detector's run: data, nets, method, optimizer, all checked."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from torch import nn

from kdviz.base.check import require
from kdviz.checkpoints import Checkpoint
from kdviz.checkpoints.backbone import load_backbone
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.data import DATA, BoxData, load_boxes
from kdviz.data.boxes import joined
from kdviz.losses import validate_logits
from kdviz.methods import Objective, Probe
from kdviz.methods import build as build_objective
from kdviz.models import build as build_model
from kdviz.models import evaluating
from kdviz.models.detection import at_size, freeze, is_detector
from kdviz.train.batches import Batches
from kdviz.train.detection.batches import BoxBatches
from kdviz.train.detection.score import score_boxes
from kdviz.train.detection.step import DetectorStep, DetectorTogether
from kdviz.train.device import choose_device, choose_precision, loss_scaler
from kdviz.train.distributed import Exchange, require_divisible
from kdviz.train.ema import averaged
from kdviz.train.recipe import Recipe
from kdviz.train.setup import Machine, Run, frozen_teacher, needs_of, optimizer_of, record_of
from kdviz.train.sync_bn import synchronize

# Settings of recipes that mean nothing to a detector's run; all must stand at their defaults.
UNUSED = (
    *("compile", "drop_path", "student_size", "teacher_size", "teacher_normalization", "features_at"),
    *("teacher_features_at", "label_smoothing", "rand_augment", "colour_jitter", "mixup", "cutmix", "random_erasing"),
)
FRESH = (
    "the backbone's weights are fresh, so that all of it is trained; the recipe's source starts from ImageNet's, which"
    " --backbone FILE names"
)


def prepare_detector(recipe: Recipe, folder: RunFolder, *, teacher: Checkpoint | None, machine: Machine) -> Run:
    """The run of a recipe whose student is a detector, before its first step.

    Raises: KdvizError: settings that detectors do not have, a method without the detector's own losses, a missing or
        mismatched teacher, a backbone's file of another net, a data set without boxes, torchvision that does not load.
    """
    _check(recipe)
    where = choose_device(machine.device)
    precision = choose_precision(recipe.precision, where)
    data = training_boxes(recipe, machine.root)
    val = load_boxes(recipe.data, split="val", root=machine.root) if recipe.holdout else None
    test = load_boxes(recipe.data, split="test", root=machine.root)
    side = recipe.image_size or data.side

    def seeing(net: nn.Module) -> nn.Module:
        at_size(net, side, mean=data.mean, std=data.std)
        return net.to(where, memory_format=torch.channels_last)  # type: ignore[call-overload]

    student, frozen = build_model(recipe.student, classes=data.classes, seed=recipe.seed), None
    backbone = _backbone(recipe, student)
    student = seeing(student)
    if "teacher" in needs_of(recipe.method):
        if teacher is not None:
            require(is_detector(teacher.name), f"the teacher {teacher.path} is a {teacher.name}, no detector")
        frozen = seeing(frozen_teacher(recipe, teacher, data, where))
    ranks = machine.ranks
    if recipe.sync_bn:
        student = synchronize(student, where)
    batches = BoxBatches(recipe, data, where, machine.workers, ranks)
    if ranks.world > 1:
        require_divisible(ranks, batches.size, recipe.accumulate, least=1)
    named = teacher if frozen is not None else None
    step = DetectorStep(
        student,
        student,
        frozen,
        objective := _objective(recipe, student, named, frozen, batches),
        optimizer_of(recipe, where, student, objective),
        precision,
        parts=recipe.accumulate,
        clip=recipe.clip_grad,
        average=averaged(student) if recipe.ema else None,
        decay=recipe.ema,
        scaler=loss_scaler(precision, where),
        ranks=ranks,
    )
    if ranks.world > 1:
        _check_shared(objective)
        together = DetectorTogether(student, objective, precision, ranks, step.views)
        step = replace(step, exchange=Exchange(together, recipe.accumulate, (batches.first(2), None)))
    record = record_of(recipe, data, objective, named, precision)
    record["recipe"] |= {"image_size": side, **({} if backbone is None else {"backbone_sha256": backbone})}
    table = machine.teacher_cache is not None and frozen is not None
    return Run(
        recipe,
        folder,
        student,
        step,
        cast(Batches, batches),  # serves a detector's step as Batches do any other
        val,
        test,
        None,
        record,
        workers=machine.workers,
        live="its regions are the student's, new in every step" if table else None,
        ranks=ranks,
        score=partial(score_boxes, ranks=ranks),
        chosen_by="ap",
        shares_score=True,
        notes=(FRESH,) if backbone is None and recipe.expects_backbone else (),
    )


def _backbone(recipe: Recipe, student: nn.Module) -> str | None:
    """Fill and freeze the student's backbone as the recipe says; the file's SHA-256, None without a file."""
    if recipe.backbone is None:
        return None
    digest = load_backbone(recipe.backbone, student, name=recipe.student)
    freeze(student, **recipe.backbone_settings)
    return digest


def _check(recipe: Recipe) -> None:
    default = Recipe.model_validate({})
    changed = [name for name in UNUSED if getattr(recipe, name) != getattr(default, name)]
    require(not changed, f"train: {', '.join(changed)} cannot be set for a detector; leave them at their defaults")
    require(
        recipe.augment in ("flip", "none"),
        f"train: a detector's images are flipped or left as they are; set augment=flip or none, not {recipe.augment}",
    )
    require(
        isinstance(recipe.holdout, bool), "train: a detector's holdout is split or none, not a fraction of the images"
    )
    require(
        "boxes" in needs_of(recipe.method),
        f"train: {recipe.method} has none of a detector's own losses; say roi_kd, roi_dkd, roi_pld, fgfi, fpn_fitnet,"
        f" or detector+{recipe.method}",
    )


def _check_shared(objective: Objective) -> None:
    """Refuse terms that compare images by more than logits, which are all that the processes gather of each other."""
    terms = [
        name
        for name, term in objective.terms.items()
        if getattr(term, "couples", True) and getattr(term, "needs", frozenset()) - {"teacher"}
    ]
    require(
        not terms,
        f"train: {', '.join(terms)} compares the images of a batch by their features, which the processes of torchrun"
        " do not exchange for a detector; start it without torchrun",
    )


def training_boxes(recipe: Recipe, root: Path | None) -> BoxData:
    """The images to train on, those with boxes, by the recipe's holdout and limit.

    Raises: KdvizError for a data set that is not there, or whose parts on disk cannot be joined.
    """
    whole = load_boxes(recipe.data, split="train", root=root)
    if not recipe.holdout and not DATA[recipe.data.partition(":")[0]].val_is_test:
        whole = joined(whole, load_boxes(recipe.data, split="val", root=root))
    data = whole.trainable()
    return data.subset(recipe.limit, seed=recipe.seed) if recipe.limit and recipe.limit < len(data) else data


def _objective(
    recipe: Recipe, student: nn.Module, teacher: Checkpoint | None, frozen: nn.Module | None, batches: BoxBatches
) -> Objective:
    """The method, built for what both nets show on two images, which is validated here."""
    probing = DetectorStep(student, student, frozen, None, None, "fp32")  # type: ignore[arg-type]
    nets = [student] if frozen is None else [student, frozen]
    with torch.random.fork_rng(), torch.no_grad(), evaluating(*nets):
        learnt, taught, seen = probing.views(batches.first(2))
    validate_logits(learnt.logits, None if taught is None else taught.logits, seen.labels, who="train")
    classes = batches.data.classes + 1  # background is one
    probe = Probe(learnt, taught, classes, seen.labels, recipe.seed, frozen)
    return build_objective(
        recipe.method,
        classes=classes,
        student=recipe.student,
        teacher=teacher.name if teacher else None,
        settings=recipe.settings,
        probe=probe,
    ).to(batches.device)
