"""Every other producer's layout, written here as that producer writes it, and opened."""

import argparse
import json
import re
from collections import OrderedDict

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_models import PUBLISHED
from torch import nn

from kdviz.base.check import KdvizError
from kdviz.checkpoints import load_checkpoint
from kdviz.models import build

STUDENT = build("resnet8", classes=10, seed=0).state_dict()
TEACHER = build("resnet14", classes=10, seed=1).state_dict()
# The optimizer's state as trainers leave it: a decayed learning rate in NumPy's type.
SGD = {
    "state": {0: {"momentum_buffer": torch.zeros(3)}},
    "param_groups": [{"lr": np.float64(0.05) * 0.1, "params": [0]}],
}


def under(prefix, state):
    return OrderedDict((prefix + key, tensor) for key, tensor in state.items())


def mdistiller_latest():
    nets = under("module.student.", STUDENT) | under("module.teacher.", TEACHER)
    extras = {"module.conv_reg.conv.weight": torch.zeros(4, 4, 1, 1), "module.connectors.0.0.weight": torch.zeros(2)}
    return {"epoch": 240, "model": nets | extras, "optimizer": SGD, "best_acc": 76.25}


def repdistiller_last():
    settings = argparse.Namespace(
        model="resnet8", dataset="cifar100", lr=0.05, lr_decay_epochs=[150, 180], epochs=240, k=np.int64(2)
    )
    return {"opt": settings, "model": STUDENT, "optimizer": SGD}


def repdistiller_student():
    settings = argparse.Namespace(model_s="resnet8", distill="crd", seed=7, nce_k=16384)
    return {"opt": settings, "epoch": 240, "model": STUDENT, "accuracy": torch.tensor(71.0)}


def timm_file():
    settings = argparse.Namespace(model="resnet8", dataset="torch/cifar10", opt="sgd", seed=42, mean=(0.5, 0.5, 0.5))
    return {
        "epoch": 3,
        "arch": "resnet8",
        "state_dict": under("_orig_mod.", STUDENT),
        "optimizer": SGD,
        "version": 2,
        "args": settings,
        "amp_scaler": {"scale": 65536.0},
        "state_dict_ema": under("_orig_mod.", TEACHER),
        "metric": 61.5,
    }


def torchvision_file():
    settings = argparse.Namespace(model="resnet8", data_path="/data", lr=0.1, distributed=True)
    averaged = {"n_averaged": torch.tensor(3), **under("module.", TEACHER)}
    return {
        "model": STUDENT,
        "optimizer": SGD,
        "lr_scheduler": {},
        "epoch": 89,
        "args": settings,
        "model_ema": averaged,
    }


LAYOUTS = {  # payload, producer, what is dropped, other facts
    "mdistiller student_best": (lambda: {"model": STUDENT}, "mdistiller", [], {}),
    "mdistiller latest": (
        mdistiller_latest,
        "mdistiller",
        ["module.teacher.", "module.conv_reg.", "module.connectors.", "best_acc", "optimizer"],
        {"epoch": 240, "metrics": {"best": {"top1": 0.7625}}},
    ),
    "RepDistiller teacher": (
        lambda: {"epoch": 240, "model": STUDENT, "accuracy": torch.tensor(72.5), "optimizer": SGD},
        "RepDistiller",
        ["accuracy", "optimizer"],
        {"epoch": 240, "metrics": {"last": {"top1": 0.725}}},
    ),
    "RepDistiller last": (
        repdistiller_last,
        "RepDistiller",
        ["opt", "optimizer"],
        {
            "data": "cifar100",
            "recipe": {
                "model": "resnet8",
                "dataset": "cifar100",
                "lr": 0.05,
                "lr_decay_epochs": [150, 180],
                "epochs": 240,
                "k": 2,
            },
        },
    ),
    "RepDistiller student": (
        repdistiller_student,
        "RepDistiller",
        ["accuracy", "opt"],
        {"method": "crd", "seed": 7, "epoch": 240},
    ),
    "CTKD": (
        lambda: {"epoch": 9, "model": under("module.", STUDENT), "best_acc": torch.tensor(50.0)},
        "CTKD",
        ["best_acc"],
        {"metrics": {"best": {"top1": 0.5}}},
    ),
    "DIST_KD": (
        lambda: {"epoch": 5, "model": STUDENT, "ema_model": TEACHER, "optimizer": SGD, "scaler": {}, "dyrep": None},
        "DIST_KD",
        ["dyrep", "ema_model", "optimizer", "scaler"],
        {"epoch": 5},
    ),
    "timm": (
        timm_file,
        "timm",
        ["amp_scaler", "arch", "args", "metric", "optimizer", "state_dict_ema", "version"],
        {"data": "cifar10", "seed": 42, "epoch": 3},
    ),
    "torchvision": (torchvision_file, "torchvision", ["args", "lr_scheduler", "model_ema", "optimizer"], {"epoch": 89}),
    "torchdistill": (
        lambda: {
            "model": STUDENT,
            "optimizer": SGD,
            "best_value": 71.5,
            "lr_scheduler": {},
            "args": argparse.Namespace(),
        },
        "torchdistill",
        ["args", "best_value", "lr_scheduler", "optimizer"],
        {"metrics": {"best": {"top1": 0.715}}},
    ),
    "mmrazor": (
        lambda: {
            "meta": {"epoch": 20, "seed": 1, "mmengine_version": "0.10"},
            "state_dict": under("architecture.", STUDENT) | under("teacher.", TEACHER),
            "message_hub": {},
        },
        "mmrazor",
        ["teacher.", "message_hub", "meta"],
        {"epoch": 20, "seed": 1},
    ),
    "Lightning": (
        lambda: {
            "epoch": 4,
            "global_step": 99,
            "pytorch-lightning_version": "2.5.0",
            "hyper_parameters": {"lr": 0.1},
            "state_dict": under("student.", STUDENT) | under("teacher.", TEACHER) | {"loss.weight": torch.ones(10)},
            "loops": {},
            "callbacks": {},
        },
        "Lightning",
        ["teacher.", "loss.", "callbacks", "global_step", "hyper_parameters", "loops", "pytorch-lightning_version"],
        {"recipe": {"lr": 0.1}, "versions": {"pytorch-lightning": "2.5.0"}},
    ),
    "Lightning, one net": (
        lambda: {
            "pytorch-lightning_version": "2.5.0",
            "state_dict": under("net._orig_mod.", STUDENT) | {"criterion.weight": torch.ones(10)},
        },
        "Lightning",
        ["criterion.", "pytorch-lightning_version"],
        {},
    ),
    "bare": (lambda: STUDENT, "bare", [], {"recipe": {}, "epoch": None, "metrics": {}}),
    "bare, DataParallel": (lambda: under("module.", STUDENT), "bare", [], {}),
    "bare, with neighbours": (
        lambda: under("module.student.module._orig_mod.", STUDENT) | under("module.teacher.", TEACHER),
        "bare",
        ["module.teacher."],
        {},
    ),
    "ImageNet example": (
        lambda: {
            "epoch": 90,
            "arch": "resnet18",
            "state_dict": under("module.", STUDENT),
            "best_acc1": torch.tensor(69.0),
        },
        "PyTorch ImageNet example",
        ["arch", "best_acc1"],
        {"metrics": {"best": {"top1": 0.69}}},
    ),
    "a tutorial's": (lambda: {"net": STUDENT, "acc": 93.0, "epoch": 199}, "unknown", ["acc"], {"epoch": 199}),
    "both nets by name": (lambda: {"teacher": TEACHER, "student": STUDENT}, "unknown", ["teacher"], {}),
    "averaged only": (lambda: {"model_ema": under("module.", STUDENT)}, "unknown", [], {}),
}


def holds_the_student(checkpoint):
    loaded = checkpoint.model.state_dict()
    return (checkpoint.name, checkpoint.classes) == ("resnet8", 10) and all(
        torch.equal(loaded[key], STUDENT[key]) for key in STUDENT
    )


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_student_comes_out_and_the_rest_is_told(tmp_path, layout, legacy):
    payload, producer, dropped, facts = LAYOUTS[layout]
    torch.save(payload(), tmp_path / "file", _use_new_zipfile_serialization=not legacy)
    checkpoint = load_checkpoint(tmp_path / "file")
    assert holds_the_student(checkpoint)
    assert checkpoint.producer == producer
    assert checkpoint.dropped == dropped
    assert {key: getattr(checkpoint, key) for key in facts} == facts


def test_numbers_of_numpy_1_open(tmp_path):
    """NumPy 1.x wrote the scalar's function under another module."""
    torch.save({"model": STUDENT, "optimizer": SGD}, tmp_path / "a", _use_new_zipfile_serialization=False)
    content = (tmp_path / "a").read_bytes()
    new, old = b"cnumpy._core.multiarray\nscalar\n", b"cnumpy.core.multiarray\nscalar\n"
    assert new in content
    (tmp_path / "a").write_bytes(content.replace(new, old))
    assert holds_the_student(load_checkpoint(tmp_path / "a"))


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_published_net_is_known_by_its_shapes(tmp_path, name):
    state = {
        key: torch.zeros((), dtype=torch.long) if shape == () else torch.zeros(1).expand(shape)
        for key, shape in PUBLISHED[name].items()
    }
    torch.save({"model": state}, tmp_path / "student_best")
    checkpoint = load_checkpoint(tmp_path / "student_best")
    assert (checkpoint.name, checkpoint.classes) == (name, 100)


@pytest.mark.parametrize("classes", [2, 64, 1000])
@pytest.mark.parametrize("name", ["resnet20", "wrn_16_2", "vgg8", "MobileNetV2", "ShuffleV2", "resnet8x4"])
def test_the_class_count_is_read_off(tmp_path, name, classes):
    torch.save(build(name, classes=classes, seed=0).state_dict(), tmp_path / "a.pth")
    checkpoint = load_checkpoint(tmp_path / "a.pth")
    assert (checkpoint.name, checkpoint.classes) == (name, classes)


def test_files_without_batch_counters_open(tmp_path):
    old = {key: tensor for key, tensor in STUDENT.items() if not key.endswith("num_batches_tracked")}
    torch.save(old, tmp_path / "a.pth")
    checkpoint = load_checkpoint(tmp_path / "a.pth")
    assert holds_the_student(checkpoint)
    assert checkpoint.model.bn1.num_batches_tracked == 0


def test_half_precision_becomes_float32(tmp_path):
    torch.save(
        {key: tensor.bfloat16() if tensor.is_floating_point() else tensor for key, tensor in STUDENT.items()},
        tmp_path / "a.pth",
    )
    model = load_checkpoint(tmp_path / "a.pth").model
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    torch.testing.assert_close(model.conv1.weight, STUDENT["conv1.weight"], rtol=1 / 128, atol=0)


def test_safetensors_open_under_any_name(tmp_path):
    save_file(under("module.", STUDENT), tmp_path / "weights.bin")
    checkpoint = load_checkpoint(tmp_path / "weights.bin")
    assert holds_the_student(checkpoint)
    assert checkpoint.producer == "bare"


def test_a_hugging_face_folder_opens(tmp_path):
    save_file(STUDENT, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet8", "num_classes": 10}))
    checkpoint = load_checkpoint(tmp_path)
    assert holds_the_student(checkpoint)
    assert (checkpoint.producer, checkpoint.path) == ("Hugging Face", tmp_path)
    for content, message in (("{", "is not JSON"), ("[]", "holds no settings")):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(KdvizError, match=message):
            load_checkpoint(tmp_path)


def tiny(num_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(12, num_classes))


def test_a_net_of_another_library_is_built_by_the_name_in_the_file(tmp_path, monkeypatch):
    asked = []

    def stand_in(name, classes):
        asked.append((name, classes))
        return tiny(classes)

    monkeypatch.setattr("kdviz.models.build_external", stand_in)
    save_file(tiny(7).state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "tiny_net"}))
    checkpoint = load_checkpoint(tmp_path)
    assert (checkpoint.name, checkpoint.classes) == ("timm:tiny_net", 7)
    assert set(asked) == {("timm:tiny_net", 7)}


def test_a_named_net_of_the_users_own(tmp_path):
    torch.save({"state_dict": under("module.", tiny(6).state_dict())}, tmp_path / "a.pth")
    checkpoint = load_checkpoint(tmp_path / "a.pth", model="test_checkpoints_foreign:tiny")
    assert (checkpoint.name, checkpoint.classes) == ("test_checkpoints_foreign:tiny", 6)
    with pytest.raises(
        KdvizError, match=r"does not fit test_checkpoints_foreign:tiny: 1\.weight is \(6, 12\), expected \(5, 12\)"
    ):
        load_checkpoint(tmp_path / "a.pth", model="test_checkpoints_foreign:tiny", classes=5)


def test_a_missing_library_is_told_with_the_file(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    torch.save({"arch": "vit_tiny", "version": 2, "state_dict": tiny(6).state_dict()}, tmp_path / "a.pth.tar")
    with pytest.raises(KdvizError, match=r"a\.pth\.tar: timm .*pip install timm"):
        load_checkpoint(tmp_path / "a.pth.tar")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (under("a.", STUDENT) | under("b.", TEACHER), r"holds several nets \(a\., b\.\); save the one you mean alone"),
        (
            under("student.", {"fc.weight": torch.zeros(10, 64)}) | under("teacher.", TEACHER),
            r"fits no known net \(1 tensors, the first fc\.weight \(10, 64\)\)",
        ),
        (
            under("student.", {key: STUDENT[key] for key in list(STUDENT)[:-1]}) | under("teacher.", TEACHER),
            r"is nearest to resnet8: lacks fc\.bias$",
        ),
        (STUDENT | {"fc.bias": torch.zeros(11)}, r"is nearest to resnet8: fc\.bias is \(11,\), expected \(10,\)$"),
        (
            under("module.", STUDENT | {"head.bias": torch.zeros(1)}),
            r"is nearest to resnet8: has head\.bias beside it$",
        ),
    ],
)
def test_what_fits_nothing_is_told_by_the_nearest(tmp_path, state, message):
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(KdvizError, match=message):
        load_checkpoint(tmp_path / "a.pth")


def test_a_teacher_alone_is_opened(tmp_path):
    torch.save(under("teacher.", TEACHER), tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth").name == "resnet14"


def test_settings_that_are_no_plain_values_are_left_out(tmp_path):
    settings = argparse.Namespace(lr=0.1, weights=torch.zeros(3), nested={"a": 1}, long=list(range(100)), none=None)
    torch.save({"model": STUDENT, "accuracy": float("nan"), "opt": settings}, tmp_path / "a.pth")
    checkpoint = load_checkpoint(tmp_path / "a.pth")
    assert checkpoint.recipe == {"lr": 0.1}
    assert checkpoint.metrics == {}


# Averaged and raw weights in one file: TEACHER's shapes are another net's, so the average here is STUDENT's, moved.

AVERAGE = {key: tensor + 1 if tensor.is_floating_point() else tensor for key, tensor in STUDENT.items()}
FOLLOWED = {key: tensor for key, tensor in AVERAGE.items() if "running" not in key and "num_batches" not in key}
AVERAGED = {
    "timm": {"arch": "resnet8", "version": 2, "state_dict": STUDENT, "state_dict_ema": under("module.", AVERAGE)},
    "torchvision": {
        "model": STUDENT,
        "lr_scheduler": {},
        "model_ema": {"n_averaged": torch.tensor(3), **under("module.", AVERAGE)},
    },
    "shadow": {"model": under("module.", STUDENT), "ema": {"decay": 0.999, "shadow": AVERAGE}},
    "shadow of parameters alone": {"model": under("module.", STUDENT), "ema": {"shadow": FOLLOWED}},
    "Lightning, a group": {
        "pytorch-lightning_version": "2.5.0",
        "state_dict": under("model.", STUDENT) | under("ema_model.module.", AVERAGE),
    },
    "mmengine, which swaps them": {
        "meta": {},
        "state_dict": AVERAGE,
        "ema_state_dict": {"steps": torch.tensor(9), **under("module.", STUDENT)},
    },
}


@pytest.mark.parametrize("layout", AVERAGED)
def test_the_weights_are_raw_or_averaged_by_choice(tmp_path, layout):
    torch.save(AVERAGED[layout], tmp_path / "a")
    assert holds_the_student(load_checkpoint(tmp_path / "a"))
    assert holds_the_student(load_checkpoint(tmp_path / "a", weights="raw"))
    averaged = load_checkpoint(tmp_path / "a", weights="ema")
    assert averaged.weights == "ema"
    assert averaged.facts["weights"] == "averaged (EMA)"
    loaded = averaged.model.state_dict()
    followed = FOLLOWED if layout == "shadow of parameters alone" else AVERAGE
    assert all(torch.equal(loaded[key], {**STUDENT, **followed}[key]) for key in STUDENT)
    assert averaged.sha256 != load_checkpoint(tmp_path / "a").sha256


def test_weights_that_a_file_has_not_are_refused(tmp_path):
    torch.save({"model": STUDENT}, tmp_path / "raw")
    torch.save({"model_ema": AVERAGE}, tmp_path / "ema")
    with pytest.raises(KdvizError, match=r"raw: holds no averaged weights; open it with --weights raw"):
        load_checkpoint(tmp_path / "raw", weights="ema")
    with pytest.raises(KdvizError, match=r"ema: holds averaged weights alone; open it with --weights ema"):
        load_checkpoint(tmp_path / "ema", weights="raw")
    assert load_checkpoint(tmp_path / "ema").weights == "ema"
    with pytest.raises(KdvizError, match="weights must be one of raw, ema, got 'mean'"):
        load_checkpoint(tmp_path / "raw", weights="mean")


def test_thops_counters_are_left_out(tmp_path):
    counters = {
        f"{module}{name}": torch.zeros(1) for module in ("", "layer1.", "fc.") for name in ("total_ops", "total_params")
    }
    torch.save({"model": {**STUDENT, **counters}}, tmp_path / "a")
    opened = load_checkpoint(tmp_path / "a")
    assert holds_the_student(opened)
    assert opened.dropped == ["thop's total_ops", "thop's total_params"]


class Nets:
    """What a user's package may hold."""

    @classmethod
    def from_name(cls, name, **settings):
        assert name == "tiny"
        return tiny(**settings)

    @classmethod
    def of_six(cls, name):
        return tiny(6 if name == "six" else 2)

    @staticmethod
    def plain(count):
        return tiny(count)


@pytest.mark.parametrize("call", ["Nets.from_name('tiny')", "Nets.of_six('six')", "Nets.plain", "tiny"])
def test_a_method_of_the_users_own_class_builds_the_net(tmp_path, call):
    torch.save(tiny(6).state_dict(), tmp_path / "a.pth")
    assert load_checkpoint(tmp_path / "a.pth", model=f"test_checkpoints_foreign:{call}").classes == 6


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("Nets.from_nam", "unknown name in test_checkpoints_foreign: 'from_nam'; did you mean 'from_name'"),
        ("Nets.from_name(open('x'))", "with literals alone"),
        ("Nets.from_name('tiny'", "with literals alone"),
        ("AVERAGED", "is a dict; expected a function, a class or its method"),
    ],
)
def test_what_is_no_function_is_one_line(call, message):
    with pytest.raises(KdvizError, match=re.escape(message)):
        build(f"test_checkpoints_foreign:{call}", classes=6)
