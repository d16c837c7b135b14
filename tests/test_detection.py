"""Detectors: the Python operators against torchvision's own, masks and regions against brute force, methods, runs."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from test_detection_data import folder
from tiny_detector import SIDE, squares
from torch import nn
from typer.testing import CliRunner

from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder, load_checkpoint, save_checkpoint
from kdviz.cli.app import app
from kdviz.methods import METHODS, Batch, Probe, Scene, build, settings_in_force
from kdviz.methods.fgfi import near_objects
from kdviz.metrics.average_precision import average_precision
from kdviz.metrics.overlap import iou
from kdviz.models import Outputs
from kdviz.models.detection import DETECTORS, FALLBACK, at_size, fallback, torchvision_detection, train_pass
from kdviz.train import load_recipe, train
from kdviz.train.detection.step import DetectorStep
from kdviz.train.recipe import Recipe

pytestmark = pytest.mark.filterwarnings("ignore:KDVIZ_TORCHVISION_FALLBACK")


def recipe(**changes):
    asked = {"student": "fasterrcnn_small", "data": "squares", "method": "detector", "epochs": 2, "batch": 4}
    return load_recipe(**{**asked, "augment": "flip", "lr": 0.02, "warmup": 0, "seed": 1, **changes})


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train(recipe(student="fasterrcnn_wide", epochs=1, precision="fp32"), out=out, device="cpu")
    return load_checkpoint(out)


def net_and_batch(name="fasterrcnn_small", seed=0):
    torch.manual_seed(seed)
    net = at_size(DETECTORS[name](2), SIDE)
    data = squares("val")
    images = [image.float() / 255 for image in data.images]
    targets = [{"boxes": one.corners, "labels": one.labels + 1} for one in data.boxes]
    return net, images, targets


# --- torchvision's import and the Python operators


def test_without_the_fallback_one_line_says_what_is_wrong():
    program = "from kdviz.models import build; build('fasterrcnn_resnet18_fpn', classes=3); print('built')"
    clean = {key: value for key, value in os.environ.items() if key != FALLBACK}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=clean)
    if run.returncode == 0:
        pytest.skip("torchvision's compiled operators load here")
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("kdviz.base.check.KdvizError: torchvision is installed, but its compiled operators do not")
    assert f"set {FALLBACK}=1" in last


def test_nms_keeps_what_a_plain_loop_keeps():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(60, 2, generator=generator) * 20
    boxes = torch.cat([corners, corners + 2 + 8 * torch.rand(60, 2, generator=generator)], 1)
    scores = torch.rand(60, generator=generator)
    overlaps, kept = iou(boxes, boxes), []
    for place in scores.argsort(descending=True).tolist():
        if all(overlaps[place, other] <= 0.4 for other in kept):
            kept.append(place)
    assert fallback.nms(boxes, scores, 0.4).tolist() == kept
    assert 5 < len(kept) < 55
    assert fallback.nms(boxes[:0], scores[:0], 0.4).tolist() == []


@pytest.mark.parametrize("aligned", [True, False])
def test_roi_align_is_torchvisions_own_python_version(aligned):
    torchvision_detection()
    own = sys.modules["torchvision.ops.roi_align"]._roi_align.__wrapped__
    generator = torch.Generator().manual_seed(1)
    maps = torch.randn(2, 3, 9, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    rois = torch.tensor(
        [[0, 3, 4, 20, 30], [1, -3, -2, 12, 9], [1, 10, 10, 10.5, 10.25], [0, 0, 0, 28, 36], [1, 20, 30, 27, 35]],
        dtype=torch.float64,
    )
    found, expected = (one(maps, rois, 0.25, 4, 3, 2, aligned) for one in (fallback.roi_align, own))
    torch.testing.assert_close(found, expected)
    weights = torch.randn(found.shape, generator=generator, dtype=torch.float64)
    slopes = [torch.autograd.grad((one * weights).sum(), maps)[0] for one in (found, expected)]
    torch.testing.assert_close(*slopes)
    beyond = torch.tensor([[0, -60.0, -60, -20, -20], [1, 60, 60, 90, 90]], dtype=torch.float64)
    assert not fallback.roi_align(maps, beyond, 0.25, 4, 3, 2, aligned).any()  # as the compiled operator has it


def test_the_pass_in_parts_is_torchvisions_own():
    net, images, targets = net_and_batch()
    torch.manual_seed(7)
    whole = net(images, targets)
    torch.manual_seed(7)
    seen = train_pass(net, images, targets)
    assert set(seen.losses) == set(whole)
    for name, value in whole.items():
        torch.testing.assert_close(seen.losses[name], value)
    assert sum(map(len, seen.proposals)) == len(seen.labels) == len(seen.logits)


@pytest.mark.parametrize("name", ["fasterrcnn_resnet18_fpn", "fasterrcnn_mobilenet_v2_fpn"])
def test_the_shipped_detectors_have_five_maps_of_one_width(name):
    net = at_size(DETECTORS[name](3), SIDE).eval()
    with torch.no_grad():
        maps = net.backbone(torch.rand(1, 3, SIDE, SIDE))
    assert [tuple(one.shape) for one in maps.values()] == [(1, 256, side, side) for side in (16, 8, 4, 2, 1)]
    assert all(weight.requires_grad for weight in net.parameters())


# --- FGFI, overlaps, average precision


def brute_iou(a, b):
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    area = lambda box: (box[2] - box[0]) * (box[3] - box[1])  # noqa: E731
    return width * height / (area(a) + area(b) - width * height)


def test_fgfis_masks_are_those_of_brute_force():
    generator, sizes, each = np.random.default_rng(0), [(6, 5), (3, 2)], 3
    anchors, cells = [], []
    for level, (height, width) in enumerate(sizes):
        step = 8 * 2**level
        for y in range(height):
            for x in range(width):
                for _ in range(each):
                    w, h = generator.uniform(4, 20, 2) * 2**level
                    centre_x, centre_y = (x + 0.5) * step, (y + 0.5) * step
                    anchors.append([centre_x - w / 2, centre_y - h / 2, centre_x + w / 2, centre_y + h / 2])
                    cells.append((level, y, x))
    truth = [[3, 4, 17, 20], [20, 10, 38, 44], [0, 0, 8, 8]]
    expected = [np.zeros(size, dtype=bool) for size in sizes]
    for box in truth:
        overlaps = [brute_iou(box, anchor) for anchor in anchors]
        for (level, y, x), overlap in zip(cells, overlaps, strict=True):
            expected[level][y, x] |= overlap > 0.5 * max(overlaps)
    found = near_objects(torch.tensor(anchors), torch.tensor(truth, dtype=torch.float32), sizes)
    for mask, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mask.numpy(), wanted)
    assert 0 < sum(mask.sum() for mask in expected) < sum(height * width for height, width in sizes)
    nothing = near_objects(torch.tensor(anchors), torch.zeros(0, 4), sizes)
    assert not any(mask.any() for mask in nothing)


def test_fgfis_loss_is_half_the_mean_over_its_positions():
    maps = [torch.randn(1, 2, 2, 2, dtype=torch.float64) for _ in range(2)]
    learnt, taught = (Outputs(torch.zeros(1, 3), (one,)) for one in maps)
    anchors = torch.tensor([[0, 0, 4, 4], [4, 0, 8, 4], [0, 4, 4, 8], [4, 4, 8, 8]], dtype=torch.float64)
    scene = Scene((anchors,), (torch.tensor([[0.0, 0, 4, 4.0]], dtype=torch.float64),))
    probe = Probe(learnt, taught, 3, torch.zeros(1, dtype=torch.int64))
    objective = build("fgfi", classes=3, probe=probe, settings={"detector.weight": 0}).double()
    (adapter,) = objective.terms["fgfi"].adapters
    nn.init.dirac_(adapter.weight)
    nn.init.zeros_(adapter.bias)
    batch = Batch(torch.zeros(1), torch.zeros(1, dtype=torch.int64), torch.zeros(1), scene=scene)
    value = objective(learnt, taught, batch, epoch=0.0)["fgfi"]
    gap = (maps[0] - maps[1])[0, :, 0, 0]  # the one position under the box, two channels
    torch.testing.assert_close(value, 0.01 * gap.square().sum() / 2)


def test_the_published_settings_of_detectors():
    dkd = settings_in_force("roi_dkd")
    assert (dkd["dkd.alpha"], dkd["dkd.beta"], dkd["dkd.temperature"], dkd["dkd.warmup"]) == (1, 0.25, 1, 0)
    assert (settings_in_force("fgfi")["fgfi.weight"], settings_in_force("fgfi")["fgfi.threshold"]) == (0.01, 0.5)
    for one in METHODS.values():
        if "boxes" in one.needs:
            assert one.defaults["detector.weight"] == 1
    assert settings_in_force("kd+roi_pld").keys().isdisjoint({"ce.weight"})  # the detector's losses stand in its place


def truth_and_found(*found):
    truth = [(boxes.corners, boxes.labels, boxes.crowd) for boxes in squares("test").boxes]
    return truth, list(found) or [(corners, labels, torch.ones(len(labels))) for corners, labels, _ in truth]


def test_the_average_precision_of_a_perfect_detector_is_1():
    precision = average_precision(*truth_and_found(), classes=2)
    assert precision == (1, 1, 1, [1, 1])


def test_average_precision_by_hand():
    """Four boxes, two of each class. Boxes shifted so that their IoU is exactly .6 count at .5 and .55 and .6 alone."""
    truth, found = truth_and_found()
    shifted = []
    for corners, labels, scores in found:
        width = corners[:, 2] - corners[:, 0]
        move = torch.stack([width / 4, 0 * width, width / 4, 0 * width], 1)  # 3/4 shared of 5/4: IoU .6
        shifted.append((corners + move, labels, scores))
    precision = average_precision(truth, shifted, classes=2)
    assert precision.ap50 == pytest.approx(1)
    assert precision.ap75 == 0
    assert precision.ap in (pytest.approx(0.3), pytest.approx(0.2))  # of ten thresholds; .6 itself by rounding
    nothing = (torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0))
    half = average_precision(truth, [*found[:2], nothing, nothing], classes=2)
    assert half.ap == pytest.approx(51 / 101)  # recalls 0, .01, ..., .5 of 101 have precision 1
    none = average_precision(truth, [nothing] * 4, classes=3)
    assert none == (0, 0, 0, [0, 0, None])


# --- the step


def test_both_heads_see_the_students_regions():
    student, images, targets = net_and_batch()
    teacher, *_ = net_and_batch("fasterrcnn_wide", seed=3)
    teacher.eval()
    asked = []
    for net in (student, teacher):
        net.roi_heads.box_roi_pool.register_forward_pre_hook(lambda _, given: asked.append(given[1]))
    step = DetectorStep(student, student, teacher, None, None, "fp32")
    from kdviz.train.detection.batches import BoxBatch

    learnt, taught, seen = step.views(BoxBatch(images, targets, torch.arange(4)))
    assert len(asked) == 2
    for one, other in zip(*asked, strict=True):
        assert torch.equal(one, other)
    assert learnt.logits.shape == taught.logits.shape == (len(seen.labels), 3)
    assert taught.logits.grad_fn is None
    with torch.no_grad():  # the teacher's logits, by torchvision's own modules
        prepared, _ = student.transform(images, targets)
        pooled = teacher.roi_heads.box_roi_pool(teacher.backbone(prepared.tensors), asked[0], prepared.image_sizes)
        expected = teacher.roi_heads.box_predictor(teacher.roi_heads.box_head(pooled))[0]
    torch.testing.assert_close(taught.logits, expected)


@pytest.mark.parametrize("method", ["roi_kd", "roi_dkd", "roi_pld", "roi_kd+rk", "fpn_fitnet", "fgfi", "detector+dist"])
def test_a_method_trains_the_student_alone(method, teacher, tmp_path):
    before = {name: one.clone() for name, one in teacher.model.state_dict().items()}
    result = train(recipe(method=method, epochs=1, precision="fp32"), out=tmp_path, teacher=teacher, device="cpu")
    for name, one in teacher.model.state_dict().items():
        assert torch.equal(one, before[name]), name
    assert all(weight.grad is None for weight in teacher.model.parameters())
    (entry,) = RunFolder(tmp_path).epochs()
    terms = {name for name in entry["train"] if name != "total"}
    assert "detector" in terms
    assert len(terms) == 2 + ("+rk" in method)
    assert sum(entry["train"][name] for name in terms) == pytest.approx(entry["train"]["total"])
    assert set(entry["val"]) == {"ap", "ap50", "ap75"}
    assert {"ap", "ap50", "ap75", "epoch"} <= set(result["last"])
    opened = load_checkpoint(tmp_path)
    assert (opened.name, opened.classes, opened.teacher["name"]) == ("fasterrcnn_small", 2, "fasterrcnn_wide")
    assert opened.model.transform.min_size == (SIDE,)


def test_a_resumed_run_is_the_uninterrupted_one(teacher, tmp_path):
    asked = recipe(method="roi_kd+fgfi", precision="fp32", ema=0.9)
    train(asked, out=tmp_path / "whole", teacher=teacher, device="cpu")

    def stop(done, _whole):
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(asked, out=tmp_path / "cut", teacher=teacher, device="cpu", save_minutes=0.0, progress=stop)
    train(asked, out=tmp_path / "cut", teacher=teacher, device="cpu")
    assert len(RunFolder(tmp_path / "cut").events("resume")) == 1
    first, second = (load_checkpoint(tmp_path / name).model.state_dict() for name in ("whole", "cut"))
    for name, one in first.items():
        assert torch.equal(one, second[name]), name


def test_an_epoch_of_iterations_is_so_many_steps_over_whole_passes():
    from kdviz.train.detection.batches import BoxBatches

    data, device = squares("train"), torch.device("cpu")
    batches = BoxBatches(recipe(iterations=10, epochs=2), data, device)
    plans = [batches.plan(epoch).order for epoch in range(2)]
    assert batches.steps == 5
    assert [len(plan) for plan in plans] == [20, 20]
    stream = torch.cat(plans)
    for start in (0, 12, 24):  # 12 images: every pass holds each once, wherever an epoch ends
        assert sorted(stream[start : start + 12].tolist()) == list(range(12))
    plain = BoxBatches(recipe(), data, device)
    assert plain.steps == 3
    assert not torch.equal(plain.plan(0).order, plain.plan(1).order)


def test_a_mirrored_image_keeps_its_boxes_on_their_objects():
    from kdviz.train.detection.batches import BoxBatches

    batches = BoxBatches(recipe(batch=12), squares("train"), torch.device("cpu"))
    batch = batches.get(batches.plan(0), 0)
    mirrored = 0
    for image, target, place in zip(batch.images, batch.targets, batch.ids.tolist(), strict=True):
        ((left, top, right, bottom),) = target["boxes"].int().tolist()
        assert float(image[:, top:bottom, left:right].min()) > 0.8
        assert float(image.mean()) == pytest.approx(float(squares("train").images[place].float().mean() / 255))
        mirrored += not torch.equal(target["boxes"], squares("train").boxes[place].corners)
    assert 0 < mirrored < 12


def test_a_small_detector_learns_the_squares(tmp_path):
    asked = recipe(epochs=5, optimizer="adamw", lr=3e-3, weight_decay=1e-4, precision="fp32", schedule="cosine")
    train(asked, out=tmp_path, device="cpu")
    entries = RunFolder(tmp_path).epochs()
    losses = [entry["train"]["total"] for entry in entries]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.filterwarnings("ignore:the backbone's weights are fresh")
@pytest.mark.parametrize("name", ["rkkd-coco", "pld-coco"])
def test_a_coco_recipe_trains_by_the_command(name, tmp_path, monkeypatch):
    monkeypatch.chdir(folder(tmp_path))
    net = at_size(DETECTORS["fasterrcnn_wide"](2), SIDE)
    facts = {"data": "coco", "method": "detector", "seed": 0, "epoch": 1, "metrics": {}, "recipe": {}}
    save_checkpoint(tmp_path / "teacher.pt", model=net, name="fasterrcnn_wide", classes=2, **facts)
    words = ["train", name, "--student", "fasterrcnn_small", "--teacher", "teacher.pt", "--root", ".", "-o", "run"]
    words += [
        "--set",
        "iterations=3",
        "--epochs",
        "1",
        "--set",
        f"image_size={SIDE}",
        "--device",
        "cpu",
        "--workers",
        "2",
    ]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output or done.exception
    assert "last: epoch 1, test AP 0" in done.output
    assert "AP50" in done.output
    (entry,) = RunFolder(tmp_path / "run").epochs()
    assert set(entry["test"]) == {"ap", "ap50", "ap75"}
    opened = load_checkpoint("run")
    assert (opened.classes, opened.recipe["iterations"], opened.recipe["image_size"]) == (2, 3, SIDE)


# --- refusals


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "kd"}, "kd has none of a detector's own losses"),
        ({"augment": "crop"}, "set augment=flip or none, not crop"),
        ({"mixup": 0.2}, "mixup cannot be set for a detector"),
        ({"holdout": 0.1}, "a detector's holdout is split or none"),
        ({"data": "glyphs100"}, "has one label per image and no boxes; detectors train on "),
        ({"method": "roi_kd"}, "the method needs a teacher"),
        (
            {"student": "resnet8", "data": "glyphs100", "augment": "crop"},
            "detector is of detectors, but resnet8 is none",
        ),
        ({"student": "resnet8", "method": "ce", "augment": "crop", "data": "glyphboxes"}, "holds boxes, for detectors"),
        ({"student": "resnet8", "method": "ce"}, "augment=flip is of detectors"),
        ({"student": "resnet8", "method": "ce", "augment": "none", "iterations": 4}, "iterations is of detectors"),
    ],
)
def test_what_does_not_go_together_is_said_before_the_first_step(changes, message, tmp_path):
    with pytest.raises(KdvizError) as told:
        train(recipe(**changes), out=tmp_path, device="cpu")
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_iterations_must_fit_the_epochs():
    with pytest.raises(KdvizError, match="10 steps cannot be cut into 3 epochs"):
        load_recipe(iterations=10, epochs=3)
    coco = load_recipe("rkkd-coco")
    assert coco.iterations / coco.epochs * np.array(coco.milestones) == pytest.approx([120_000, 160_000])
    assert (coco.batch, coco.lr, coco.iterations) == (8, 0.01, 180_000)
    assert Recipe().result().keys().isdisjoint({"iterations"})


def test_a_teacher_that_is_no_detector_is_refused(tmp_path):
    with pytest.raises(KdvizError, match="is a resnet20, no detector"):
        train(
            recipe(method="roi_kd"),
            out=tmp_path,
            teacher=load_checkpoint("checkpoints/resnet20_teacher.pt"),
            device="cpu",
        )
