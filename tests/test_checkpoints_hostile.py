"""Files that are broken, of another kind, or written to do harm: one clear line, and nothing runs."""

import argparse
import io
import os
import pickle
import random
import struct
import tarfile
import warnings
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import torch
from safetensors.torch import save as to_safetensors

from kdviz.base.check import KdvizError
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.models import build

STATE = build("resnet8", classes=10, seed=0).state_dict()


def refusal(path):
    """The one line with which the file is refused."""
    with pytest.raises(KdvizError) as caught:
        load_checkpoint(path)
    line = str(caught.value)
    assert "\n" not in line
    assert line.startswith(str(path))
    return line


class Bomb:
    """Makes a file when it is unpickled, by whatever unpickles it."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def in_zip(payload, path):
    torch.save(payload, path)


def in_legacy(payload, path):
    torch.save(payload, path, _use_new_zipfile_serialization=False)


def in_protocol_4(payload, path):
    torch.save(payload, path, pickle_protocol=4)


def in_plain_pickle(payload, path):
    path.write_bytes(pickle.dumps(payload))


WRAPPED = {
    "alone": lambda bomb: bomb,
    "beside the weights": lambda bomb: {"model": STATE, "extra": bomb},
    "in the settings": lambda bomb: {"model": STATE, "opt": argparse.Namespace(lr=bomb)},
    "in our own": lambda bomb: {"kdviz": 1, "state_dict": STATE, "recipe": bomb},
}


@pytest.mark.parametrize("write", [in_zip, in_legacy, in_protocol_4, in_plain_pickle])
@pytest.mark.parametrize("wrap", WRAPPED.values(), ids=WRAPPED)
def test_a_bomb_never_goes_off(tmp_path, write, wrap):
    mark, path = tmp_path / "it ran", tmp_path / "student_best"
    write(wrap(Bomb(mark)), path)
    line = refusal(path)
    assert not mark.exists()
    assert "could run code" in line
    assert "torch.save(model.state_dict(), 'weights.pt')" in line


def test_the_bomb_of_these_tests_is_live(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "it ran")))
    assert (tmp_path / "it ran").is_dir()


def test_blocked_names_are_listed(tmp_path):
    torch.save({"model": STATE, "a": Fraction(1, 2), "b": Bomb(tmp_path / "no")}, tmp_path / "a.pt")
    line = refusal(tmp_path / "a.pt")
    assert "fractions.Fraction" in line
    assert f"{os.mkdir.__module__}.mkdir" in line


def test_whole_models_are_refused_with_the_way_out(tmp_path):
    torch.save(build("resnet8", classes=10, seed=0), tmp_path / "a.pt")
    line = refusal(tmp_path / "a.pt")
    assert "kdviz.models.resnet.ResNet" in line
    assert "state_dict" in line


def written(kind):
    if kind == "safetensors":
        return to_safetensors(STATE)
    buffer = io.BytesIO()
    torch.save({"model": STATE}, buffer, _use_new_zipfile_serialization=kind == "zip")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_anywhere_is_one_line(tmp_path, kind):
    whole, path = written(kind), tmp_path / "a.pt"
    path.write_bytes(whole)
    assert load_checkpoint(path).name == "resnet8"
    for length in [*range(0, 24), *np.linspace(24, len(whole) - 1, 40).astype(int)]:
        path.write_bytes(whole[:length])
        refusal(path)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_damaged_bytes_never_crash(tmp_path, kind):
    """Any flipped byte of the structure either leaves a net or is refused in one line."""
    whole, path, draw = written(kind), tmp_path / "a.pt", random.Random(0)
    head = {"zip": whole.find(b"data/0"), "legacy": whole.rfind(b"ctorch") + 9000, "safetensors": 6000}[kind]
    structure = [*range(min(head, len(whole))), *(range(len(whole) - 4000, len(whole)) if kind == "zip" else ())]
    for _ in range(60):
        damaged = bytearray(whole)
        for _ in range(draw.choice([1, 1, 8])):
            damaged[draw.choice(structure)] = draw.randrange(256)
        path.write_bytes(damaged)
        line = ""
        try:
            assert load_checkpoint(path).name == "resnet8"
        except KdvizError as error:
            line = str(error)
        assert "\n" not in line


def test_a_storage_shorter_than_its_tensor_is_refused(tmp_path):
    torch.save({"model": STATE}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as source, zipfile.ZipFile(tmp_path / "b.pt", "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            target.writestr(entry.filename, content[:8] if "/data/" in entry.filename else content)
    refusal(tmp_path / "b.pt")


def test_a_zip_bomb_is_refused_unread(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\0" * 50_000_000)
        archive.writestr("a/version", b"3")
    assert "would unpack to 50000001 bytes" in refusal(tmp_path / "a.pt")


def test_deep_nesting_is_one_line(tmp_path):
    payload = b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", payload)
        archive.writestr("a/version", b"3\n")
    refusal(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "names", [["a_vanilla/ckpt_epoch_240.pth", "b_vanilla/ckpt.pth"], [f"{i}.pth" for i in range(40)]]
)
def test_a_tar_archive_names_its_members(tmp_path, names):
    with tarfile.open(tmp_path / "cifar_teachers.tar", "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    line = refusal(tmp_path / "cifar_teachers.tar")
    assert "is a tar archive; extract" in line
    assert line.endswith(", ".join(names) if len(names) < 7 else "3.pth, 4.pth, 5.pth, ...")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"\x1f\x8b\x08\0" + b"\0" * 99, "compressed (gzip); unpack it first"),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 99, "HDF5"),
        (b"\x93NUMPY\x01\0", "NumPy array"),
        (b"epoch 3: 71.2", "is not a checkpoint"),
        (pickle.dumps({"model": 1}), "bare pickle"),
        (b"PK\x03\x04", "truncated or damaged"),
        (struct.pack("<Q", 10**9) + b"{}", "safetensors"),
    ],
)
def test_files_of_other_kinds_are_told(tmp_path, content, message):
    (tmp_path / "a.pt").write_bytes(content)
    assert message in refusal(tmp_path / "a.pt")


def test_archives_of_other_kinds_are_told(tmp_path):
    np.savez(tmp_path / "a.npz", a=np.zeros(3))
    assert "NumPy archive of 1 arrays" in refusal(tmp_path / "a.npz")
    for names, message in ((["x/data.pkl", "x/constants.pkl"], "TorchScript"), (["notes.txt"], "without a PyTorch")):
        with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
            for name in names:
                archive.writestr(name, b"")
        assert message in refusal(tmp_path / "b.zip")


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (torch.zeros(3), "holds a Tensor, not a checkpoint"),
        ([1, 2], "holds a list"),
        ({}, "no weights in it; it holds nothing"),
        ({"epoch": 3, "optimizer": {}}, "no weights in it; it holds epoch, optimizer"),
        ({1: torch.zeros(2)}, "no weights in it; it holds 1"),
        ({"model": {"a": 1}}, "no weights in it; it holds model"),
        ({"fingerprint": "", "position": (), "objective": {}, "student": STATE}, "open last.pt or best.pt beside it"),
    ],
)
def test_files_without_weights_are_told(tmp_path, payload, message):
    torch.save(payload, tmp_path / "a.pt")
    assert message in refusal(tmp_path / "a.pt")


def test_missing_files_and_folders_are_told(tmp_path):
    with pytest.raises(KdvizError, match="checkpoint not found"):
        load_checkpoint(tmp_path / "nothing")
    assert "there is no checkpoint in it" in refusal(tmp_path)
    (tmp_path / "best.pt").touch()
    assert "name a file in it: best.pt" in refusal(tmp_path)


def test_no_warning_reaches_the_user(tmp_path):
    in_legacy({"model": STATE}, tmp_path / "a.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_checkpoint(tmp_path / "a.pt")


@pytest.mark.parametrize(
    "name", ["os:_exit", "trap:make", "timmy:x", "builtins:exec", "a.b.c:d", ":x", 3, None, ["timm:x"]]
)
def test_a_name_in_a_file_never_chooses_code(tmp_path, monkeypatch, name):
    """A module in the working folder that leaves a mark when it is imported is the bait."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trap.py").write_text("open('sprung', 'w').close()\ndef make(classes): raise SystemExit(3)\n")
    state = build("resnet8", classes=10, seed=0).state_dict()
    save_checkpoint(
        tmp_path / "good.pt",
        model=state,
        name="resnet8",
        classes=10,
        data=None,
        method=None,
        seed=0,
        epoch=1,
        recipe={},
        metrics={},
    )
    payload = torch.load(tmp_path / "good.pt", weights_only=True) | {"name": name}
    torch.save(payload, tmp_path / "bad.pt")
    message = refusal(tmp_path / "bad.pt")
    assert "name" in message
    assert not (tmp_path / "sprung").exists()
    if isinstance(name, str):
        assert load_checkpoint(tmp_path / "bad.pt", model="resnet8").name == "resnet8"
