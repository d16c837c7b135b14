"""Faults of the system while a file is written: one line that says what was kept; signals end in their exit codes."""

import os
import signal
import stat
import subprocess
import sys

import pytest

from kdviz.base import files
from kdviz.base.check import KdvizError
from kdviz.base.signals import Terminated, exit_code, interruptible, stop_requested

SCRIPT = """
import resource, sys
from pathlib import Path
import numpy as np, torch, xarray as xr
from kdviz.base.check import KdvizError
from kdviz.base.files import atomic, write_dataset

def plain(path):
    with atomic(path) as partial: partial.write_bytes(bytes(10**6))

def weights(path):
    with atomic(path) as partial: torch.save(torch.ones(10**6), partial)

def weights_into_a_stream(path):
    with atomic(path) as partial, partial.open("wb") as stream: torch.save(torch.ones(10**6), stream)

def array(path):
    with atomic(path) as partial, partial.open("wb") as stream: np.save(stream, np.ones(10**6))

def result(path):
    write_dataset(xr.Dataset({"ce": ("x", np.random.rand(10**6))}), path)

resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
for write in (plain, weights, weights_into_a_stream, array, result):
    try:
        write(Path(sys.argv[1]) / "a.pt")
    except KdvizError as error:
        print(error)
"""


@pytest.mark.parametrize("earlier", [True, False])
def test_a_file_above_a_limit_is_one_line_and_keeps_the_earlier_one(tmp_path, earlier):
    """A limit on a file's size gives the same errors as a full disk."""
    if earlier:
        (tmp_path / "a.pt").write_text("old")
    command = [sys.executable, "-c", SCRIPT, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == 5
    for line in lines:
        assert line.startswith(f"cannot write {tmp_path / 'a.pt'}: ")
        assert "too large" in line or "size limit" in line
        assert line.endswith("the earlier file is kept" if earlier else "no part of it is left")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"] * earlier


def test_a_folder_that_vanishes_is_one_line(tmp_path):
    with (
        pytest.raises(KdvizError, match=r"the folder .*out is gone; no part"),
        files.atomic(tmp_path / "out" / "a") as p,
    ):
        p.write_text("x")
        p.unlink()
        p.parent.rmdir()
    with pytest.raises(KdvizError, match=r"the folder .*out is gone"), files.atomic(tmp_path / "out" / "a") as p:
        p.parent.rmdir()
        p.write_bytes(b"x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_is_one_line(tmp_path):
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    with pytest.raises(KdvizError, match="Permission denied"), files.atomic(tmp_path / "a") as partial:
        partial.write_text("x")


def test_errors_of_other_kinds_pass_through(tmp_path):
    with pytest.raises(RuntimeError, match="sizes differ"), files.atomic(tmp_path / "a"):
        raise RuntimeError("sizes differ")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_are_exceptions_with_their_exit_codes(number, code):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt) as caught, interruptible():
            signal.raise_signal(number)
        assert exit_code(caught.value) == code
        with pytest.raises(KeyboardInterrupt) as caught, stop_requested() as stop:
            assert not stop.is_set()
            signal.raise_signal(number)
            assert stop.is_set()
            raise KeyboardInterrupt  # what a loop does once it has saved
        assert exit_code(caught.value) == code
        with stop_requested() as outer, stop_requested():
            signal.raise_signal(number)
        assert outer.is_set()
        with pytest.raises(KeyboardInterrupt), stop_requested():
            signal.raise_signal(number)
            signal.raise_signal(number)
            pytest.fail("the second signal must interrupt at once")
    finally:
        signal.signal(signal.SIGINT, before[0])
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    assert issubclass(Terminated, KeyboardInterrupt)
