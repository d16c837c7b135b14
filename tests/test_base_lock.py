"""Locks of output folders: one holder, named to the others; what a dead process left is taken over, by one alone."""

import json
import multiprocessing
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import pytest

from kdviz.base import lock
from kdviz.base.check import KdvizError
from kdviz.base.lock import NAME, locked


@contextmanager
def holder(folder, *, seconds=60):
    """A process that holds the folder, from when it does."""
    code = (
        "import sys, time; from kdviz.base.lock import locked\n"
        "with locked(sys.argv[1]): print('in', flush=True); time.sleep(float(sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, folder, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "in\n"
        yield process
        process.kill()


def test_the_second_process_is_told_who_holds_the_folder(tmp_path):
    with holder(tmp_path) as process:
        expected = rf"in use by process {process.pid} on .* since 20.*\(-o\)"
        with pytest.raises(KdvizError, match=expected), locked(tmp_path):
            pass
    with locked(tmp_path):  # what the killed one left is taken over
        assert json.loads((tmp_path / NAME).read_text())["pid"] == os.getpid()
    assert not list(tmp_path.iterdir())


def test_a_killed_holder_that_nobody_waited_for_is_dead_too(tmp_path):
    with holder(tmp_path) as process:
        process.kill()
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline and lock._started(process.pid) is not None:
            time.sleep(0.01)
        with locked(tmp_path):
            pass


@pytest.mark.parametrize(
    ("change", "entered"),
    [
        ({}, False),
        ({"started": "1"}, True),  # another process with the same number
        ({"boot": "earlier"}, True),
        ({"pid": 2**40}, True),
        ({"host": "elsewhere"}, False),
        ({"namespace": "pid:[1]"}, False),
    ],
)
def test_who_counts_as_alive(tmp_path, change, entered):
    (tmp_path / NAME).write_text(json.dumps(lock._this_process() | change))
    if entered:
        with locked(tmp_path):
            pass
        return
    with pytest.raises(KdvizError, match="in use by process") as caught, locked(tmp_path):
        pass
    assert ("if it no longer runs, remove" in str(caught.value)) == ("host" in change)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b'{"pid": "1"}', b'{"pid": 1'])
def test_a_damaged_lock_file_is_stale_once_it_is_old(tmp_path, content):
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(KdvizError, match="another process is entering it"), locked(tmp_path):
        pass
    os.utime(tmp_path / NAME, (0, 0))
    with locked(tmp_path):
        pass


def test_the_same_thread_may_enter_again_and_another_may_not(tmp_path):
    refused = []

    def other():
        try:
            with locked(tmp_path):
                pass
        except KdvizError as error:
            refused.append(str(error))

    with locked(tmp_path), locked(tmp_path / "." / ""):
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert f"process {os.getpid()}" in refused[0]
    assert not (tmp_path / NAME).exists()


def test_an_empty_folder_goes_with_its_lock_and_an_error_releases_it(tmp_path):
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a" / "b").exists()
    with locked(tmp_path / "c") as folder:
        (folder / "x").touch()
    assert [path.name for path in folder.iterdir()] == ["x"]
    with locked(tmp_path / "d") as folder:
        (folder / NAME).unlink()
        folder.rmdir()


def test_a_file_in_the_way_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(KdvizError, match=r"cannot write into .*file"), locked(tmp_path / "file"):
        pass


def enter_often(folder, times):
    """Enter, again and again, a folder that always holds a stale lock; count the times that somebody else was in."""
    intruders = 0
    for _ in range(times):
        try:
            with locked(folder):
                inside = os.open(folder / "inside", os.O_CREAT | os.O_EXCL)
                os.close(inside)
                time.sleep(0.0005)
                (folder / "inside").unlink()
                stale = lock._this_process() | {"pid": 2**40}
                (folder / NAME).write_text(json.dumps(stale))  # as if this process had died here
        except FileExistsError:
            intruders += 1
        except KdvizError:
            pass
    return intruders


def test_of_many_that_find_a_stale_lock_one_enters(tmp_path):
    (tmp_path / NAME).write_text(json.dumps(lock._this_process() | {"pid": 2**40}))
    with multiprocessing.get_context("fork").Pool(4) as pool:
        assert sum(pool.starmap(enter_often, [(tmp_path, 100)] * 4)) == 0
