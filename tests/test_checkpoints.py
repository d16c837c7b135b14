"""Our own format: whole or absent, the same bytes for the same content, closed to anything that would run."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import kdviz
from kdviz.base.check import KdvizError
from kdviz.base.files import sha256
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.cli.app import app
from kdviz.models import build

RECIPE = {"epochs": 2, "lr": 0.1, "milestones": [1, 2], "augment": {"padding": 4}}
METRICS = {"best": {"epoch": 1, "top1": 0.5, "loss": 2.25}, "last": {"epoch": 2, "top1": 0.25, "loss": 2.5}}
TEACHER = {"path": "teacher.pt", "sha256": "ab" * 32, "name": "resnet20"}


def save(path, **changes):
    facts = {
        "model": build("resnet8", classes=10, seed=0),
        "name": "resnet8",
        "classes": 10,
        "data": "glyphs100",
        "method": "kd+rk",
        "seed": 3,
        "epoch": 2,
        "recipe": RECIPE,
        "metrics": METRICS,
        "teacher": TEACHER,
        "which": "best",
    }
    return save_checkpoint(path, **(facts | changes))


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save(tmp_path_factory.mktemp("saved") / "best.pt")


def test_everything_comes_back(saved):
    checkpoint = kdviz.load_checkpoint(saved)
    expected = {
        "path": saved,
        "name": "resnet8",
        "classes": 10,
        "producer": "kdviz",
        "dropped": [],
        "data": "glyphs100",
        "method": "kd+rk",
        "seed": 3,
        "epoch": 2,
        "which": "best",
        "recipe": RECIPE,
        "metrics": METRICS,
        "teacher": TEACHER,
        "sha256": sha256(saved),
        "parameters": 83892 - 90 * 65,
    }
    assert {key: getattr(checkpoint, key) for key in expected} == expected
    assert checkpoint.versions["torch"] == torch.__version__
    assert not checkpoint.model.training
    original = build("resnet8", classes=10, seed=0).state_dict()
    loaded = checkpoint.model.state_dict()
    assert list(loaded) == list(original)
    assert all(torch.equal(loaded[key], original[key]) for key in original)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in checkpoint.model.parameters())


def test_opening_draws_nothing_at_random(saved):
    before = torch.get_rng_state()
    load_checkpoint(saved)
    assert torch.equal(torch.get_rng_state(), before)


def test_torch_opens_it_without_our_code(saved):
    payload = torch.load(saved, weights_only=True)
    assert payload["name"] == "resnet8"
    assert payload["metrics"]["best"]["top1"] == 0.5
    assert payload["state_dict"]["fc.bias"].shape == (10,)


def test_the_same_content_gives_the_same_bytes(saved, tmp_path):
    assert sha256(save(tmp_path / "another name.pth")) == sha256(saved)
    assert sha256(save(tmp_path / "other.pt", seed=4)) != sha256(saved)


def test_saving_leaves_the_model_alone_and_keeps_no_tie_to_it(tmp_path):
    model = build("resnet8", classes=10, seed=0).train()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    path = save(tmp_path / "a.pt", model=model)
    assert model.training
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    with torch.no_grad():
        model.fc.bias.add_(1)
    assert torch.equal(load_checkpoint(path).model.fc.bias, before["fc.bias"])


def test_a_view_does_not_drag_its_storage_along(tmp_path):
    state = build("resnet8", classes=10, seed=0).state_dict()
    state["fc.bias"] = torch.zeros(1_000_000)[:10]
    assert save(tmp_path / "a.pt", model=state).stat().st_size < 500_000


def test_prefixes_of_wrapped_models_come_off(saved, tmp_path):
    class Wrapper(nn.Module):
        def __init__(self, module):
            super().__init__()
            self.module = module

    wrapped = Wrapper(build("resnet8", classes=10, seed=0))
    compiled = {f"_orig_mod.{key}": tensor for key, tensor in wrapped.module.state_dict().items()}
    for model in (wrapped, compiled):
        assert sha256(save(tmp_path / "a.pt", model=model)) == sha256(saved)


def test_numpy_and_torch_numbers_become_plain(tmp_path):
    recipe = {
        "lr": np.float64(0.5),
        "n": np.int64(3),
        "t": torch.tensor(2.0),
        "where": Path("a/b"),
        "on": np.bool_(True),
    }
    loaded = load_checkpoint(save(tmp_path / "a.pt", recipe=recipe)).recipe
    assert loaded == {"lr": 0.5, "n": 3, "t": 2.0, "where": "a/b", "on": True}
    assert [type(value) for value in loaded.values()] == [float, int, float, str, bool]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"recipe": {"optimizer": {"model": nn.ReLU()}}}, r"recipe\.optimizer\.model is a ReLU"),
        ({"metrics": {"curve": torch.zeros(3)}}, r"metrics\.curve must be a number, not an array of 3"),
        ({"which": "first"}, "which must be one of last, best"),
        ({"model": {}}, "no tensors"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(KdvizError, match=message):
        save(tmp_path / "a.pt", **changes)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("moment", ["write", "sync", "rename"])
def test_a_failing_write_leaves_the_old_file(tmp_path, monkeypatch, moment):
    path = save(tmp_path / "last.pt")
    before = path.read_bytes()
    full = OSError(errno.ENOSPC, "No space left on device")

    def half(self, content):
        with self.open("wb") as stream:
            stream.write(bytes(content)[:1000])
        raise full

    def fail(*arguments):
        raise full

    target, name, replacement = {
        "write": (Path, "write_bytes", half),
        "sync": (os, "fsync", fail),
        "rename": (Path, "replace", fail),
    }[moment]
    monkeypatch.setattr(target, name, replacement)
    with pytest.raises(KdvizError, match="No space left"):
        save(path, seed=99)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["last.pt"]


def edited(saved, path, **changes):
    payload = torch.load(saved, weights_only=True)
    for key, value in changes.items():
        if value is None:
            del payload[key]
        else:
            payload[key] = value
    torch.save(payload, path)
    return path


def test_other_formats_and_missing_entries_are_told(saved, tmp_path):
    with pytest.raises(KdvizError, match="format 2, but this kdviz reads 1; update kdviz"):
        load_checkpoint(edited(saved, tmp_path / "a.pt", kdviz=2))
    with pytest.raises(KdvizError, match="without recipe, state_dict"):
        load_checkpoint(edited(saved, tmp_path / "b.pt", recipe=None, state_dict=None))
    with pytest.raises(KdvizError, match=r"b\.pt: its resnet8 has 10 classes, but the file says 20"):
        load_checkpoint(edited(saved, tmp_path / "b.pt", classes=20))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("fc.bias"), r"does not fit resnet8: lacks fc\.bias$"),
        (lambda state: state.update(more=torch.zeros(1)), "does not fit resnet8: has more beside it"),
        (
            lambda state: state.update({"conv1.weight": torch.zeros(16, 3, 5, 5)}),
            r"conv1\.weight is \(16, 3, 5, 5\), expected \(16, 3, 3, 3\)",
        ),
        (lambda state: state["fc.weight"].view(-1)[:3].fill_(float("nan")), r"fc\.weight is not finite in 3 of 640"),
        (lambda state: state["bn1.running_var"].fill_(float("inf")), r"bn1\.running_var is not finite in 16 of 16"),
        (lambda state: state.update({"fc.bias": torch.zeros(10, device="meta")}), "not an ordinary dense tensor"),
        (lambda state: state.update({"fc.bias": torch.zeros(10).to_sparse()}), "not an ordinary dense tensor"),
        (
            lambda state: state.update({"fc.bias": torch.zeros(10, dtype=torch.complex64)}),
            "not an ordinary dense tensor",
        ),
        (lambda state: state.update({"bn1.num_batches_tracked": torch.zeros(3)}), "cannot be loaded"),
        (
            lambda state: state.update({"bn9.num_batches_tracked": torch.zeros(())}),
            r"has bn9\.num_batches_tracked beside",
        ),
        (lambda state: state.clear(), "has no tensors"),
    ],
)
def test_tensors_that_do_not_fit_are_told(saved, tmp_path, change, message):
    payload = torch.load(saved, weights_only=True)
    change(payload["state_dict"])
    torch.save(payload, tmp_path / "a.pt")
    with pytest.raises(KdvizError, match=message) as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert str(caught.value).startswith(str(tmp_path / "a.pt"))
    assert "\n" not in str(caught.value)


def test_the_users_word_binds(saved):
    assert load_checkpoint(saved, classes=10).classes == 10
    with pytest.raises(KdvizError, match="has 10 classes, but you asked for 100"):
        load_checkpoint(saved, classes=100)
    with pytest.raises(KdvizError, match=r"does not fit resnet14: lacks layer1\.1\.conv1\.weight"):
        load_checkpoint(saved, model="resnet14")
    with pytest.raises(KdvizError, match="did you mean 'resnet8'"):
        load_checkpoint(saved, model="resnet_8")


def test_a_net_of_the_users_own_is_copied_and_filled(tmp_path):
    def net():
        return nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))

    trained, own = net(), net()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "own.pt")
    before = own[1].weight.clone()
    checkpoint = load_checkpoint(tmp_path / "own.pt", model=own)
    assert torch.equal(checkpoint.model[3].weight, trained[3].weight)
    assert torch.equal(own[1].weight, before)
    assert own.training
    assert (checkpoint.name, checkpoint.classes) == ("Sequential", 4)
    with pytest.raises(KdvizError, match=r"does not fit Sequential: 3\.weight is \(4, 8\), expected \(5, 8\)"):
        load_checkpoint(
            tmp_path / "own.pt", model=nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 5))
        )
    with pytest.raises(
        KdvizError, match=r"fits no known net \(4 tensors, the first 1\.weight \(8, 12\)\); say which it is: FILE@"
    ):
        load_checkpoint(tmp_path / "own.pt")


def test_a_notebook_shows_it_escaped(tmp_path):
    evil = "<script>alert(1)</script>"
    checkpoint = load_checkpoint(save(tmp_path / f"{evil.replace('/', '')}.pt", method=evil, recipe={evil: evil}))
    shown = checkpoint._repr_html_()
    assert "<script" not in shown
    assert "<summary>1 settings</summary>" in shown
    assert "&lt;script&gt;" in shown
    for told in ("resnet8, 10 classes, 78,042 parameters", "top-1 50.00 %, loss 2.2500 nats, epoch 1", "teacher.pt"):
        assert told in shown


def inspected(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_inspect_prints_everything(saved):
    told = inspected(saved).stdout
    for word in (
        "kdviz",
        "resnet8, 10 classes",
        "glyphs100",
        "kd+rk",
        "2 (best)",
        "milestones [1, 2]",
        "ab" * 32,
        sha256(saved),
    ):
        assert word in told


def test_inspect_speaks_json(saved):
    held = json.loads(inspected(saved, "--json").stdout)
    assert held["metrics"] == METRICS
    assert held["recipe"] == RECIPE
    assert held["teacher"] == TEACHER
    assert held["parameters"] == 78042
    assert [json.loads(line)["seed"] for line in inspected(saved, saved, "--json").stdout.splitlines()] == [3, 3]


def test_inspect_of_a_truncated_file_is_one_line(saved, tmp_path):
    (tmp_path / "half.pt").write_bytes(saved.read_bytes()[:9999])
    command = [sys.executable, "-m", "kdviz", "inspect", str(tmp_path / "half.pt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"kdviz: {tmp_path / 'half.pt'}: is truncated or damaged")
