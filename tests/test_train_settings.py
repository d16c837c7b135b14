"""Every setting of a recipe does to a run what its name says; truth by hand or by torch's own functions."""

import json

import pytest
import torch
from test_train import _die, recipe, same, weights
from tiny import CLASSES, load
from torch import nn
from torch.nn import functional

import kdviz
from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder, save_checkpoint
from kdviz.models import MODELS, Outputs
from kdviz.models.view import see
from kdviz.train import load_recipe, train
from kdviz.train.batches import batches_of
from kdviz.train.setup import prepare
from kdviz.train.splits import training_split, validation_split

WHOLE = {"batch": 192, "augment": "none", "warmup": 0, "epochs": 2}  # one step an epoch over all 192 images


class Plain(nn.Module):
    """A net without batch statistics, whose gradient over a batch is the mean over its parts."""

    def __init__(self, classes: int, *, drop_path: float = 0.0) -> None:
        super().__init__()
        self.conv, self.fc, self.drop_path = nn.Conv2d(3, 4, 8, stride=8), nn.Linear(64, classes), drop_path

    def forward(self, images, features=False):
        maps = self.conv(images).relu()
        return Outputs(self.fc(maps.flatten(1)), (maps,), maps.mean((2, 3)), (maps,))


@pytest.fixture(autouse=True)
def plain_is_known(monkeypatch):
    monkeypatch.setitem(MODELS._entries, "plain", Plain)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    out = tmp_path_factory.mktemp("teacher")
    train(recipe(student="resnet14", epochs=1), out=out, device="cpu")
    return kdviz.load_checkpoint(out / "last.pt")


def whole(**changes):
    return recipe(student="plain", momentum=0.0, nesterov=False, weight_decay=0.0, **{**WHOLE, **changes})


def one_step(tmp_path, **changes):
    """(weights before, weights after, gradient, images, labels) of a first step of SGD, the gradient computed here."""
    chosen = whole(epochs=1, precision="fp32", **changes)
    train(chosen, out=tmp_path, device="cpu")
    net = kdviz.models.build("plain", classes=CLASSES, seed=3).train()
    images, labels = next(load("train").batches(192))
    loss = functional.cross_entropy(net(images).logits, labels, label_smoothing=chosen.label_smoothing)
    gradient = torch.autograd.grad(loss, list(net.parameters()))
    after = kdviz.load_checkpoint(tmp_path / "last.pt").model
    return list(net.parameters()), list(after.parameters()), gradient, loss


@pytest.mark.parametrize("changes", [{}, {"accumulate": 4}, {"label_smoothing": 0.3}])
def test_a_step_is_that_of_sgd(tmp_path, changes):
    before, after, gradient, loss = one_step(tmp_path, **changes)
    for weight, moved, slope in zip(before, after, gradient, strict=True):
        torch.testing.assert_close(moved, weight - 0.05 * slope, rtol=1e-4, atol=1e-6)
    assert RunFolder(tmp_path).epochs()[0]["train"]["ce"] == pytest.approx(float(loss.detach()), rel=1e-5)


def test_gradients_are_clipped_to_the_norm(tmp_path):
    before, after, gradient, _ = one_step(tmp_path, clip_grad=0.01)
    assert torch.cat([slope.flatten() for slope in gradient]).norm() > 0.02  # or nothing would be clipped
    moved = torch.cat([(new - old).detach().flatten() for old, new in zip(before, after, strict=True)])
    assert float(moved.norm()) == pytest.approx(0.05 * 0.01, rel=1e-3)


def test_the_average_follows_the_weights_and_is_measured_and_saved(tmp_path):
    train(whole(epochs=3, ema=0.75, keep_epochs=1), out=tmp_path, device="cpu")
    average = kdviz.models.build("plain", classes=CLASSES, seed=3).fc.weight.detach()
    for number in (1, 2, 3):
        seen = weights(tmp_path / "epochs" / f"epoch_{number:04d}.pt")["fc.weight"]
        average = 0.75 * average + 0.25 * seen
    saved = kdviz.load_checkpoint(tmp_path / "ema.pt")
    torch.testing.assert_close(saved.model.fc.weight, average)
    assert saved.which == "ema"
    images, labels = next(load("test").batches(96))
    with torch.no_grad():
        top1 = float((saved.model(images).logits.argmax(1) == labels).double().mean())
    assert RunFolder(tmp_path).result()["ema"]["top1"] == pytest.approx(top1)
    assert "top1" in RunFolder(tmp_path).epochs()[0]["ema"]


@pytest.mark.parametrize(
    "changes",
    [
        {"ema": 0.9, "accumulate": 2, "clip_grad": 1.0},
        {"optimizer": "adamw", "lr": 0.01, "no_decay": True},
        {"mixup": 0.5, "cutmix": 1.0, "random_erasing": 0.5, "label_smoothing": 0.1},
        {"rand_augment": True, "colour_jitter": 0.4, "augment": "resized_crop"},
        {"precision": "bf16"},
        {"precision": "fp16"},
    ],
    ids=lambda changes: "+".join(changes),
)
def test_a_run_that_was_stopped_in_an_epoch_ends_like_one_that_was_not(tmp_path, changes, monkeypatch):
    from kdviz.train.step import Step

    chosen, shared = recipe(epochs=2, **changes), {"device": "cpu", "save_minutes": 0.0}
    train(chosen, out=tmp_path / "whole", **shared)
    count, call = iter(range(100)), Step.__call__
    with monkeypatch.context() as patch:
        patch.setattr(Step, "__call__", lambda *args, **given: _die() if next(count) == 8 else call(*args, **given))
        with pytest.raises(ZeroDivisionError):
            train(chosen, out=tmp_path / "stopped", **shared)
    train(chosen, out=tmp_path / "stopped", **shared)
    for name in ("last.pt", *(["ema.pt"] if "ema" in changes else [])):
        assert same(weights(tmp_path / "whole" / name), weights(tmp_path / "stopped" / name))
    assert RunFolder(tmp_path / "stopped").events("start")[0]["recipe"]["precision"] in ("fp32", "bf16", "fp16")


def test_mixed_images_come_with_their_targets():
    batches = batches_of(recipe(mixup=0.5, label_smoothing=0.1, augment="none"), load("train"), torch.device("cpu"))
    plan = batches.plan(0)
    batch = batches.get(plan, 1)
    pure = batches.normalize(load("train").images[batch.ids])
    for image, target, label, own in zip(batch.images, batch.targets, batch.labels, pure, strict=True):
        share = float(target[label])
        assert float(target.sum()) == pytest.approx(1, abs=1e-6)
        # the partner is some image of the batch, and what is not its share is the image's own
        weight = next(
            (w for other in pure for w in [_share(image, own, other)] if w is not None and 0 <= w <= 1.0001), None
        )
        assert weight is not None
        expected = 0.9 * weight + 0.1 / CLASSES
        assert share == pytest.approx(expected, abs=2e-3) or share > expected  # a partner of the same class adds to it


def _share(image, own, other):
    """w with image = w own + (1 - w) other, or None."""
    gap = own - other
    if float(gap.square().sum()) == 0:
        return 1.0 if torch.allclose(image, own, atol=1e-5) else None
    w = float(((image - other) * gap).sum() / gap.square().sum())
    return w if torch.allclose(image, w * own + (1 - w) * other, atol=1e-4) else None


def test_methods_of_one_class_refuse_mixed_images_and_smoothing_needs_cross_entropy(teacher, tmp_path):
    for method in ("dkd", "pld", "crd"):
        with pytest.raises(KdvizError, match="mixup and cutmix make images of two classes"):
            train(recipe(method=method, mixup=0.2), out=tmp_path, teacher=teacher, device="cpu")
    with pytest.raises(KdvizError, match="label_smoothing changes the targets of cross-entropy, which pld"):
        train(recipe(method="pld", label_smoothing=0.1), out=tmp_path, teacher=teacher, device="cpu")
    train(recipe(method="kd", mixup=0.2, epochs=1), out=tmp_path, teacher=teacher, device="cpu")


def test_holdout_is_none_the_sets_own_split_or_a_fraction(tmp_path):
    counts = {"none": (240, None), "split": (192, 48), 0.25: (180, 60), False: (240, None), True: (192, 48)}
    for holdout, (train_count, val_count) in counts.items():
        chosen = recipe(holdout=holdout)
        val = validation_split(chosen, None)
        assert (len(training_split(chosen, None)), val and len(val)) == (train_count, val_count)
    both = recipe(holdout=0.25)
    pixels = {image.numpy().tobytes() for image in training_split(both, None).images}
    assert not pixels & {image.numpy().tobytes() for image in validation_split(both, None).images}
    for wrong in ("some", 0, 1.5, -0.1, "2"):
        with pytest.raises(KdvizError, match="holdout: must be none, split, or a fraction"):
            recipe(holdout=wrong)


def test_records_of_runs_hold_later_settings_only_where_they_differ():
    plain, changed = recipe().result(), recipe(ema=0.5, mixup=0.1).result()
    assert "ema" not in plain
    assert {key: changed[key] for key in changed.keys() - plain.keys()} == {"ema": 0.5, "mixup": 0.1}


def test_a_student_that_sees_another_size_is_saved_and_opened_with_it(tmp_path):
    train(recipe(epochs=1, student_size=48), out=tmp_path, device="cpu")
    opened = kdviz.load_checkpoint(tmp_path / "last.pt").model
    plain = kdviz.models.build("resnet8", classes=CLASSES)
    plain.load_state_dict(opened.state_dict())
    images, labels = next(load("test").batches(96))
    with torch.no_grad():
        large = functional.interpolate(images, size=(48, 48), mode="bilinear")
        expected = plain.eval()(large).logits
        torch.testing.assert_close(opened(images).logits, expected)
        assert not torch.allclose(plain(images).logits, expected, atol=1e-2)
    top1 = float((expected.argmax(1) == labels).double().mean())
    assert RunFolder(tmp_path).result()["last"]["top1"] == pytest.approx(top1)


def test_a_teacher_of_another_size_and_normalisation_sees_the_view_as_it_was_trained(tmp_path):
    model = kdviz.models.build("resnet8", classes=CLASSES, seed=0)
    own = {"mean": [0.5, 0.4, 0.3], "std": [0.1, 0.2, 0.4]}
    about = {"data": "tiny", "method": "ce", "seed": 0, "epoch": 1, "metrics": {}, "recipe": {"normalization": own}}
    path = save_checkpoint(tmp_path / "teacher.pt", model=model, name="resnet8", classes=CLASSES, **about)
    chosen = recipe(method="kd", teacher_normalization="own", teacher_size=16, augment="none", precision="fp32")
    opened = kdviz.load_checkpoint(path)
    for _ in range(2):  # a second run with the same checkpoint sees no more than the first
        run = prepare(chosen, RunFolder(tmp_path), teacher=opened, device="cpu")
    batch = run.batches.get(run.batches.plan(0), 0)
    raw = load("train").images[batch.ids].float() / 255
    mean, std = (torch.tensor(own[key]).view(3, 1, 1) for key in ("mean", "std"))
    small = functional.interpolate((raw - mean) / std, size=(16, 16), mode="bilinear", antialias=True)
    with torch.no_grad():
        torch.testing.assert_close(run.step.teach(batch).logits, model.eval()(small).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(KdvizError, match="teacher_normalization must be own"):
        prepare(recipe(method="kd"), RunFolder(tmp_path), teacher=kdviz.load_checkpoint(path), device="cpu")


def test_own_constants_of_a_teacher_may_be_said_by_the_net_itself(tmp_path):
    teacher = kdviz.models.build("resnet8", classes=CLASSES, seed=0)
    torch.save(teacher.state_dict(), tmp_path / "teacher.pt")
    opened = kdviz.load_checkpoint(tmp_path / "teacher.pt")
    chosen = recipe(method="kd", teacher_normalization="own", precision="fp32")
    with pytest.raises(KdvizError, match="does not say how its images were normalised"):
        prepare(chosen, RunFolder(tmp_path), teacher=opened, device="cpu")
    opened.model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}  # as timm's nets have it
    run = prepare(chosen, RunFolder(tmp_path), teacher=opened, device="cpu")
    batch = run.batches.get(run.batches.plan(0), 0)
    data = load("train")
    raw = batch.images * torch.tensor(data.std).view(3, 1, 1) + torch.tensor(data.mean).view(3, 1, 1)
    with torch.no_grad():
        expected = teacher.eval()((raw - 0.5) / 0.25).logits
    torch.testing.assert_close(run.step.teach(batch).logits, expected, rtol=1e-4, atol=1e-4)


def test_a_view_leaves_the_nets_names_alone():
    net = nn.Sequential(nn.Conv2d(3, 2, 1))
    names = list(net.state_dict())
    assert see(net, size=4) is net
    assert list(net.state_dict()) == names
    assert net(torch.zeros(1, 3, 9, 9)).shape == (1, 2, 4, 4)


def test_drop_path_reaches_the_net(tmp_path):
    run = prepare(recipe(student="plain", drop_path=0.25), RunFolder(tmp_path), teacher=None, device="cpu")
    assert run.student.drop_path == 0.25
    with pytest.raises(KdvizError, match="has no drop-path"):
        prepare(recipe(drop_path=0.25), RunFolder(tmp_path), teacher=None, device="cpu")


def test_a_trace_of_ten_steps_is_written_and_the_run_goes_on(tmp_path):
    metrics = train(recipe(epochs=3), out=tmp_path, device="cpu", profile=True)
    trace = json.loads((tmp_path / "trace.json").read_text())
    steps = {event["name"] for event in trace["traceEvents"] if event.get("name", "").startswith("ProfilerStep#")}
    assert len(steps) == 10
    assert metrics["last"]["epoch"] == 3


def test_loggers_get_each_epoch_and_one_that_fails_is_left_out(tmp_path, monkeypatch):
    from kdviz.train import loggers

    lines = []

    class Failing:
        def __init__(self, folder, settings): ...
        def log(self, values, step):
            raise RuntimeError("the disk is gone")

        def close(self): ...

    class Kept(Failing):
        def log(self, values, step):
            lines.append((step, values["val/top1"]))

    monkeypatch.setattr(loggers, "LOGGERS", {"kept": Kept, "failing": Failing})
    with pytest.warns(UserWarning, match="failing: RuntimeError: the disk is gone; the run goes on without it"):
        train(recipe(epochs=2), out=tmp_path, device="cpu", loggers=("kept", "failing"))
    epochs = RunFolder(tmp_path).epochs()
    assert lines == [(entry["epoch"], entry["val"]["top1"]) for entry in epochs]
    assert len(RunFolder(tmp_path).events("warning")) == 1
    with pytest.raises(KdvizError, match="logger 'other'"):
        train(recipe(), out=tmp_path / "no", device="cpu", loggers=("other",))


def test_top1_of_each_class_is_in_the_journal(tmp_path):
    train(recipe(epochs=1), out=tmp_path, device="cpu")
    net = kdviz.load_checkpoint(tmp_path / "last.pt").model
    images, labels = next(load("test").batches(96))
    with torch.no_grad():
        right = net(images).logits.argmax(1) == labels
    expected = [float(right[labels == label].double().mean()) for label in range(CLASSES)]
    assert RunFolder(tmp_path).events("end")[0]["top1_by_class"] == pytest.approx(expected)


@pytest.mark.parametrize("accumulate", [3, 32, 33])
def test_a_batch_must_be_cut_into_equal_parts_of_two_or_more(accumulate):
    with pytest.raises(KdvizError, match="accumulate: 32 images cannot be cut"):
        recipe(accumulate=accumulate)


def test_published_recipes_of_imagenet_and_vits_say_what_the_papers_say():
    vit, rkkd, pld, long = (
        load_recipe(name) for name in ("rkkd-vit", "rkkd-imagenet", "pld-imagenet", "pld-cifar100-300")
    )
    assert (vit.epochs, vit.lr, vit.min_lr, vit.warmup, vit.weight_decay) == (300, 5e-4, 5e-6, 20, 0.05)
    assert (vit.batch, vit.drop_path, vit.student_size, vit.settings["rank_kendall.weight"]) == (128, 0.1, 224, 0.5)
    assert (rkkd.epochs, rkkd.batch, rkkd.lr, rkkd.milestones) == (100, 512, 0.2, (30, 60, 90))
    assert (rkkd.weight_decay, rkkd.settings["kd.temperature"], rkkd.student) == (1e-4, 1.0, "MobileNetV1")
    assert (pld.epochs, pld.batch, pld.lr, pld.warmup, pld.weight_decay) == (100, 2048, 5e-3, 5, 0.02)
    assert (pld.optimizer, pld.eval_crop, pld.image_size, pld.holdout) == ("timm:lamb", 0.95, 224, False)
    assert (long.epochs, long.lr, long.batch) == (300, 1e-3, 128)


@pytest.mark.parametrize(
    ("method", "kept"),
    [
        (None, ["ce.weight", "kd.temperature", "kd.weight", "rank_kendall.pairs", "rank_kendall.weight"]),
        ("kd", ["ce.weight", "kd.temperature", "kd.weight"]),
        ("ce", []),  # half of the labels' loss balances what is not there
        ("at", []),
        ("dkd+rk", ["rank_kendall.pairs", "rank_kendall.weight"]),
    ],
)
def test_another_method_takes_of_a_recipe_only_what_is_for_it(method, kept):
    assert sorted(load_recipe("rkkd-imagenet", method=method).settings) == kept
    assert load_recipe("rkkd-imagenet", method=method, settings={"ce.weight": 0.7}).settings["ce.weight"] == 0.7
