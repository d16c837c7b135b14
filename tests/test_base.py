"""The base layer: errors that help, registries that never overwrite, files that are whole or absent."""

import hashlib
import os

import numpy as np
import pytest
import xarray as xr

from kdviz.base import files, seeds
from kdviz.base.check import KdvizError, one_of, positive, same_shape
from kdviz.base.registry import Registry


def test_registry_suggests_and_never_overwrites():
    things = Registry[int]("thing")
    things.add("ResNet50", 1)
    with pytest.raises(KdvizError, match=r"unknown thing 'resnet50'; did you mean 'ResNet50'\?"):
        things["resnet50"]
    with pytest.raises(KdvizError, match="registered already"):
        things.add("ResNet50", 2)
    assert things["ResNet50"] == 1
    assert "other" not in things
    assert things.get("other") is None


def test_checks_name_the_culprit():
    with pytest.raises(KdvizError, match=r"kd: logits_student is \(2, 3\) but target is \(2,\)"):
        same_shape("kd", logits_student=np.zeros((2, 3)), target=np.zeros(2))
    for bad in (0, -1, float("nan"), float("inf")):
        with pytest.raises(KdvizError, match="temperature must be a finite number above 0"):
            positive("kd", temperature=bad)
    with pytest.raises(KdvizError, match="form must be one of 1, 2, 3, got 4"):
        one_of("rank_kendall", (1, 2, 3), form=4)


def test_atomic_write_keeps_the_old_file_on_failure(tmp_path):
    path = tmp_path / "deep" / "file.txt"
    with files.atomic(path) as partial:
        partial.write_text("old")
    with pytest.raises(RuntimeError), files.atomic(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert [entry.name for entry in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_disk_is_one_clear_error(tmp_path):
    with pytest.raises(KdvizError, match="No space left on device"), files.atomic(tmp_path / "x") as partial:
        partial.symlink_to("/dev/full")
        with open(partial, "w") as stream:
            stream.write("x" * 100_000)
    assert not (tmp_path / "x").exists()


def test_unwritable_folder_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(KdvizError, match="cannot write"), files.atomic(tmp_path / "file" / "below"):
        pass


def test_sha256_is_the_standard_one(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"kdviz" * 1000)
    assert files.sha256(path) == hashlib.sha256(b"kdviz" * 1000).hexdigest()


def test_datasets_come_back_as_they_went(tmp_path):
    meaning = {"units": "nats", "long_name": "cross-entropy", "role": "loss"}
    variables = {"ce": (("alpha",), np.arange(3.0), meaning)}
    dataset = xr.Dataset(variables, {"alpha": [-1.0, 0.0, 1.0]}, {"kind": "profile"})
    files.write_dataset(dataset, tmp_path / "a.nc")
    xr.testing.assert_identical(files.read_dataset(tmp_path / "a.nc"), dataset)


@pytest.mark.parametrize("content", [b"", b"not netCDF", b"\x89HDF\r\n\x1a\n torn"])
def test_damaged_results_are_refused(tmp_path, content):
    (tmp_path / "a.nc").write_bytes(content)
    with pytest.raises(KdvizError, match="not a kdviz result"):
        files.read_dataset(tmp_path / "a.nc")
    with pytest.raises(KdvizError, match="result not found"):
        files.read_dataset(tmp_path / "missing.nc")


def test_seed_streams_are_apart_and_repeat():
    streams = {seeds.derive(seed, *names) for seed in (0, 1) for names in (("a",), ("b",), ("a", "b"), ("ab",))}
    assert len(streams) == 8
    assert all(0 <= stream < 2**63 for stream in streams)
    assert seeds.numpy_generator(3, "x").integers(1 << 30) == seeds.numpy_generator(3, "x").integers(1 << 30)
    assert seeds.torch_generator(3, "x").initial_seed() == seeds.derive(3, "x")


def test_an_unknown_name_lists_every_name_that_is_accepted():
    from kdviz.data import DATA
    from kdviz.losses import ALIASES, resolve
    from kdviz.methods.build import NAMES, canonical
    from kdviz.models import build

    for ask, names in (
        (lambda: resolve("none of them"), ALIASES),
        (lambda: canonical("none of them"), NAMES),
        (lambda: build("none of them"), ("timm:NAME", "resnet34x4")),
        (lambda: DATA["none of them"], ("folder:PATH", "hf:NAME")),
    ):
        with pytest.raises(KdvizError) as caught:
            ask()
        listed = str(caught.value).split("known: ")[1].split(", ")
        assert set(names) <= set(listed)
