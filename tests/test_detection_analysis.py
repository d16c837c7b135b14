# ruff: noqa: F811 - a fixture of another module
"""Detectors analysed: logits at matched boxes, cut-out boxes, landscapes and audits, by the commands too."""

import copy

import numpy as np
import pytest
import torch
from test_detection import net_and_batch, pytestmark, teacher  # noqa: F401 - a mark and a fixture
from tiny_detector import squares
from torch import nn
from typer.testing import CliRunner

from kdviz import landscape
from kdviz.analysis.detections import matched_logits
from kdviz.analysis.landscape import random_direction, random_pair, sweep
from kdviz.analysis.landscape.detector import LOSSES, DetectorLosses
from kdviz.analysis.landscape.options import Measurement
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset
from kdviz.base.seeds import derive
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.cli.app import app
from kdviz.data import BoxData, load_boxes
from kdviz.data.boxes import boxes_of
from kdviz.data.crops import crops
from kdviz.viewer.images import write


def test_matched_logits_are_both_heads_at_the_proposal_nearest_to_each_box(teacher):
    """With proposals made by hand: one fits its box, one has an IoU of exactly 9/16, one misses."""
    student, *_ = net_and_batch()
    student.eval()
    data = squares("test")
    handed = []
    for place, one in enumerate(data.boxes):
        left, top, right, bottom = one.corners[0].tolist()
        width, height = right - left, bottom - top
        narrow = [left, top, left + 0.75 * width, top + 0.75 * height]
        away = [left + width, top, right + width, bottom]
        handed.append(torch.tensor([away, one.corners[0].tolist() if place == 0 else narrow if place == 1 else away]))
    student.rpn.forward = lambda images, features, targets=None: (handed, {})
    found = matched_logits(student, data, teacher=teacher, batch=4)
    assert (found.sizes["sample"], found.sizes["channel"]) == (2, 3)
    assert found.attrs["boxes_without_match"] == 2
    assert found["target"].values.tolist() == [one + 1 for box in data.boxes[:2] for one in box.labels.tolist()]
    assert found["image"].values.tolist() == [0, 1]
    assert found["class_name"].values.tolist() == ["background", "bar", "square"]
    with torch.no_grad():
        prepared, _ = student.transform([image.float() / 255 for image in data.images])
        boxes = [handed[0][1:], handed[1][1:], *[torch.zeros(0, 4)] * 2]
        for name, net in (("student", student), ("teacher", teacher.model)):
            heads = net.roi_heads
            pooled = heads.box_roi_pool(net.backbone(prepared.tensors), boxes, prepared.image_sizes)
            expected = heads.box_predictor(heads.box_head(pooled))[0]
            np.testing.assert_allclose(found[f"logits_{name}"].values, expected.numpy(), rtol=1e-5, atol=1e-5)
    student.rpn.forward = lambda images, features, targets=None: (handed[2:], {})
    with pytest.raises(KdvizError, match="no proposal has an IoU of 1 with a box"):
        matched_logits(student, data.take(torch.tensor([2, 3])), least=1, batch=4)


def test_a_detectors_landscape_has_its_own_losses_at_the_centre(teacher):
    net, data = teacher.model, squares("val")
    weights = dict(net.named_parameters())
    objective = DetectorLosses(net, data, Measurement(losses=tuple(LOSSES)))
    before = {name: one.clone() for name, one in net.state_dict().items()}
    line = sweep(objective, weights, random_direction(weights, seed=0), [-0.5, 0.0, 0.5])
    for name, one in net.state_dict().items():
        assert torch.equal(one, before[name]), name
    assert not any(part.training for part in net.modules())
    assert line["loss_objectness"].attrs["units"] == "nats"
    net.train()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d) or part is net.transform:  # which draws a size from a list of one
            part.eval()
    images = [image.float() / 255 for image in data.images]
    targets = [{"boxes": one.corners, "labels": one.labels + 1} for one in data.boxes]
    torch.manual_seed(derive(0, "regions", 0))
    with torch.no_grad():
        expected = {name: float(value) for name, value in net(images, targets).items()}
    net.eval()
    for name, value in expected.items():
        assert float(line[name].sel(alpha=0.0)) == pytest.approx(value, rel=1e-6), name
    assert float(line["detector"].sel(alpha=0.0)) == pytest.approx(sum(expected.values()), rel=1e-6)
    assert float(line["detector"].sel(alpha=0.5)) != pytest.approx(sum(expected.values()), rel=1e-3)


def three_images() -> BoxData:
    """Blue images with a red box each, at an edge in the first; a crowd stands before the box of the second."""
    images = torch.zeros(3, 3, 40, 50, dtype=torch.uint8)
    images[:, 2] = 255
    images[0, :, 10:20, 0:10] = torch.tensor([255, 0, 0])[:, None, None]
    images[1, :, 8:28, 12:22] = torch.tensor([255, 0, 0])[:, None, None]
    images[2, :, 5:15, 30:40] = torch.tensor([255, 0, 0])[:, None, None]
    boxes = (
        boxes_of([[0, 10, 10, 20]], [1]),
        boxes_of([[0, 0, 50, 40], [12, 8, 22, 28]], [0, 0], [True, False]),
        boxes_of([[30, 5, 40, 15]], [1]),
    )
    half = (0.5, 0.5, 0.5)
    return BoxData("three", "test", images, boxes, ("tall", "square"), 40, half, half, synthetic=True)


def test_crops_are_squares_around_single_boxes_numbered_as_in_the_split():
    data = three_images()
    found = crops(data, side=30)
    assert found.labels.tolist() == [2, 1, 2]  # background is 0
    assert found.ids.tolist() == [0, 2, 3]  # 1 is the crowd
    assert found.class_names == ("background", "tall", "square")
    red, blue, black = ([255, 0, 0], [0, 0, 255], [0, 0, 0])
    first, second, _ = found.images[torch.arange(3)]  # 15 px around a box of 10 px: one pixel of it is two of the crop
    assert first[:, 15, 15].tolist() == red
    assert first[:, 15, 2].tolist() == black  # beyond the image
    assert first[:, 2, 15].tolist() == blue
    assert second[:, 15, 15].tolist() == red  # 30 px around a box of 20 px
    assert second[:, 15, 5].tolist() == blue
    assert found.images[torch.tensor([2, 0])].shape == (2, 3, 30, 30)
    late = crops(data.take(torch.tensor([2, 1])), side=30)
    assert late.ids.tolist() == [3, 2]
    assert torch.equal(late.images[torch.tensor([1])][0], second)


def boxes_at(net, shift):
    """The net, whose proposals are now the images' boxes of `squares`, moved to the right by a share of their width."""

    def handed(images, _features, targets=None):
        corners = [one.corners.clone() for one in squares("test").boxes]
        for one in corners:
            one[:, [0, 2]] += shift * (one[:, 2] - one[:, 0])[:, None]
        return corners[: len(images.image_sizes)], {}

    net.rpn.forward = handed
    return net


def test_another_net_is_measured_at_the_same_boxes(teacher):
    data = squares("test")
    first, other = (boxes_at(copy.deepcopy(net_and_batch(seed=seed)[0]), 0.25 * seed) for seed in (0, 1))
    own = matched_logits(first, data, teacher=teacher)
    there = matched_logits(other, data, teacher=teacher, at=own)
    apart = matched_logits(other, data, teacher=teacher)
    assert own["sample"].values.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(own["box"].values, np.concatenate([one.corners.numpy() for one in data.boxes]))
    np.testing.assert_array_equal(there["box"].values, own["box"].values)
    np.testing.assert_allclose(there["logits_teacher"].values, own["logits_teacher"].values, rtol=1e-5, atol=1e-6)
    swapped = matched_logits(boxes_at(other, 0.0), data)
    np.testing.assert_allclose(there["logits_student"].values, swapped["logits_student"].values, rtol=1e-5, atol=1e-6)
    assert not np.allclose(there["logits_student"].values, apart["logits_student"].values, atol=1e-3)
    with pytest.raises(KdvizError, match="over the same images"):
        matched_logits(other, squares("val"), at=own)


def test_boxes_are_in_pixels_of_the_image_and_numbered_as_in_the_split():
    data = three_images()  # 40 x 50 px, which the net sees at 64 x 80
    net = net_and_batch()[0].eval()
    seen = [1.6 * one.corners[~one.crowd] for one in data.boxes]
    net.rpn.forward = lambda images, features, targets=None: (seen, {})
    found = matched_logits(net, data)
    np.testing.assert_allclose(found["box"].values, [[0, 10, 10, 20], [12, 8, 22, 28], [30, 5, 40, 15]], rtol=1e-6)
    assert (found["sample"].values.tolist(), found["target"].values.tolist()) == ([0, 2, 3], [2, 1, 2])
    prepared, _ = net.transform([image.float() / 255 for image in data.images])
    assert prepared.image_sizes == [(64, 80)] * 3
    with torch.no_grad():
        heads = net.roi_heads
        pooled = heads.box_roi_pool(net.backbone(prepared.tensors), seen, prepared.image_sizes)
        expected = heads.box_predictor(heads.box_head(pooled))[0]
    np.testing.assert_allclose(found["logits_student"].values, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_detectors_landscape_in_one_call_is_its_objective_swept(teacher):
    data = squares("val")
    found = landscape(teacher, data, losses=["loss_classifier"], steps=3, seed=4, one_d=True)
    objective = DetectorLosses(teacher, data, Measurement(losses=["loss_classifier"], seed=4))
    along = random_pair(objective.weights, seed=4)[0]
    line = sweep(objective, objective.weights, along, [-1.0, 0.0, 1.0])
    np.testing.assert_array_equal(found["loss_classifier"].values, line["loss_classifier"].values)
    assert len(set(found["loss_classifier"].values.tolist())) == 3
    assert "loss_classifier over 4 of 4 images of squares (val, synthetic)" in found.attrs["caption"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": ["ce"]}, "unknown loss of a detector 'ce'"),
        ({"losses": ["detector"], "precision": "bf16"}, "leave precision as by default"),
        ({"losses": ["detector"], "bn": "recompute"}, "leave bn as by default"),
        ({"losses": ["detector"], "settings": {"kd.temperature": 2.0}}, "leave settings as by default"),
    ],
)
def test_what_is_not_measured_of_a_detector_is_refused(changes, message, teacher):
    with pytest.raises(KdvizError) as told:
        landscape(teacher, squares("val"), steps=3, **changes)
    assert message in str(told.value)


def facts_of(checkpoint):
    names = ("name", "classes", "data", "method", "seed", "epoch", "recipe", "metrics")
    return {name: getattr(checkpoint, name) for name in names}


@pytest.fixture
def files(teacher, tmp_path, monkeypatch):
    """Untrained detectors in files, whose proposals are made as large as the image, which each box all but fills."""
    monkeypatch.chdir(tmp_path)
    nets = {"teacher": copy.deepcopy(teacher.model), "small": net_and_batch()[0], "other": net_and_batch(seed=1)[0]}
    for name, net in nets.items():
        nn.init.zeros_(net.rpn.head.bbox_pred.weight)
        with torch.no_grad():  # every proposal is its anchor, 60 times as wide and high
            net.rpn.head.bbox_pred.bias.copy_(torch.tensor([0, 0, np.log(60), np.log(60)]).repeat(3))
        kind = "fasterrcnn_wide" if name == "teacher" else "fasterrcnn_small"
        save_checkpoint(tmp_path / f"{name}.pt", model=net, **{**facts_of(teacher), "name": kind, "data": "frames"})
    return tmp_path


def said(*words):
    done = CliRunner().invoke(app, words)
    return done.exit_code, f"{done.output}{done.exception or ''}"


def test_tau_takes_a_detectors_run(files):
    code, text = said("tau", "small.pt", "--teacher", "teacher.pt", "-o", "out")
    assert code == 0, text
    assert "mean tau-b" in text
    result = read_dataset(files / "out" / "tau.nc")
    assert (result.attrs["data"], result.attrs["samples"]) == ("frames", 4)


def test_suboptimal_cases_of_detectors_show_their_boxes(files):
    """Nets of equal logits at every box: one is near the teacher and wrong for squares, the other far and right."""
    for name, logits in (("teacher", [0, 1, 0.9]), ("small", [0, 1, 0.95]), ("other", [0, 0, 3])):
        checkpoint = load_checkpoint(f"{name}.pt")
        head = checkpoint.model.roi_heads.box_predictor.cls_score
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor(logits))
        save_checkpoint(files / f"{name}.pt", model=checkpoint.model, **facts_of(checkpoint))
    code, text = said("suboptimal", "small.pt", "other.pt", "--teacher", "teacher.pt", "-o", "out", "--format", "png")
    assert code == 0, text
    result = read_dataset(files / "out" / "suboptimal_students.nc")
    assert sorted(result["case_sample"].values.tolist()) == [1, 3]  # the boxes with squares
    pictures = crops(load_boxes("frames"))
    for number, image in zip(result["case_sample"].values, result["image"].values, strict=True):
        np.testing.assert_array_equal(image, pictures.images[torch.tensor([number])][0].numpy())


def test_the_page_of_view_shows_a_detectors_samples_as_their_boxes(tmp_path):
    request = {"data": "frames", "split": "test", "root": None, "ids": [3, 1], "target": [2, 2]}
    write(request, tmp_path / "images.npz")
    with np.load(tmp_path / "images.npz") as found:
        shown = dict(zip(found["ids"].tolist(), found["images"], strict=True))
    pictures = crops(load_boxes("frames"))
    for number in (1, 3):
        np.testing.assert_array_equal(shown[number], pictures.images[torch.tensor([number])][0].numpy())
    with pytest.raises(KdvizError, match="the labels are not those of frames"):
        write({**request, "target": [1, 2]}, tmp_path / "other.npz")


@pytest.mark.slow
def test_an_audit_of_a_detector_keeps_to_logits_at_matched_boxes(files):
    words = ["audit", "small.pt", "--teacher", "teacher.pt", "--against", "other.pt", "-o", "out"]
    code, text = said(*words, "--format", "png")
    assert code == 0, text
    assert "not measured: cka: of a detector only class logits at matched boxes are compared" in text
    own, other = (read_dataset(files / "out" / f"{name}.nc") for name in ("logits", "other_logits"))
    np.testing.assert_array_equal(own["box"].values, other["box"].values)
    assert "one of the classes, and never the right one" in (files / "out" / "audit.html").read_text()
    code, text = said(*words, "--parts", "cka")
    assert code == 1
    assert text.splitlines()[-1].startswith("cka: of a detector only class logits")


def test_the_landscape_command_draws_a_detectors_losses(files):
    words = ["landscape", "small.pt", "--steps", "3", "--span-by", "loss", "--span", "0.1", "-o", "out"]
    code, text = said(*words, "--losses", "detector,loss_objectness", "--format", "png")
    assert code == 0, text
    result = read_dataset(files / "out" / "landscape.nc")
    assert list(result.data_vars) == ["detector", "loss_objectness"]
    sides = [result["detector"].values[one] for one in ((0, 1), (2, 1), (1, 0), (1, 2))]
    assert np.mean(sides) == pytest.approx(1.1 * float(result["detector"][1, 1]), rel=0.02)


def test_what_is_of_classifiers_alone_refuses_detectors_in_a_line(files):
    for words in (["path", "small.pt", "other.pt"], ["compare", "small.pt", "other.pt"], ["spectrum", "small.pt"]):
        code, text = said(*words, "-o", "out")
        assert code == 1, words
        assert text.splitlines()[-1].startswith("small.pt is a detector, of which"), text
    code, text = said("landscape", "small.pt", "--directions", "hessian", "--steps", "3", "-o", "out")
    assert code == 1
    assert "the Hessian of a detector is not computed" in text
