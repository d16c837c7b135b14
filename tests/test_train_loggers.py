"""Loggers that write, fail and are missing; a trace of a few steps."""

import json
import sys
import time

import pytest
import torch

from kdviz.base.check import KdvizError
from kdviz.train import loggers
from kdviz.train.loggers import Loggers, numbers
from kdviz.train.profile import StepTrace

ENTRY = {"event": "epoch", "epoch": 2, "lr": 0.1, "train": {"total": 1.5}, "val": {"top1": 0.25}, "last": None}


class Kept:
    """A logger that remembers, and fails where it is told to."""

    def __init__(self, fails=""):
        self.fails, self.lines, self.closed = fails, [], 0

    def __call__(self, folder, settings):
        self._at("open")
        return self

    def log(self, values, step):
        self._at("log")
        self.lines.append((step, values))

    def close(self):
        self._at("close")
        self.closed += 1

    def _at(self, place):
        if place == self.fails:
            raise RuntimeError(f"no luck in {place}\nat all")


def opened(monkeypatch, tmp_path, warnings, **kinds):
    for name, kind in kinds.items():
        monkeypatch.setitem(loggers.LOGGERS, name, kind)
    return Loggers([*kinds, *kinds], folder=tmp_path, settings={"a": 1}, warn=warnings.append)


@pytest.mark.parametrize("place", ["open", "log", "close"])
def test_a_failing_logger_is_left_out_and_the_others_go_on(monkeypatch, tmp_path, place):
    warnings, good = [], Kept()
    some = opened(monkeypatch, tmp_path, warnings, bad=Kept(place), good=good)
    for epoch in (1, 2):
        some.log(ENTRY, step=epoch)
    some.close()
    some.close()
    assert [step for step, _ in good.lines] == [1, 2]
    assert good.lines[0][1] == {"epoch": 2.0, "lr": 0.1, "train/total": 1.5, "val/top1": 0.25}
    assert good.closed == 1
    assert warnings == [f"bad: RuntimeError: no luck in {place}; the run goes on without it"]


def test_an_interrupt_is_no_failure(monkeypatch, tmp_path):
    class Interrupted(Kept):
        def log(self, values, step):
            raise KeyboardInterrupt

    some = opened(monkeypatch, tmp_path, [], one=Interrupted())
    with pytest.raises(KeyboardInterrupt):
        some.log(ENTRY, step=1)


def test_names_and_missing_libraries_are_told_before_the_run(monkeypatch, tmp_path):
    settings = {"folder": tmp_path, "settings": {}, "warn": print}
    with pytest.raises(KdvizError, match="unknown logger 'wandbb'; did you mean 'wandb'"):
        Loggers(["wandbb"], **settings)
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    for name in ("wandb", "tensorboard"):
        with pytest.raises(KdvizError, match=rf"logger {name}: is not installed; pip install 'kdviz\[loggers\]'"):
            Loggers([name], **settings)


def test_numbers_keep_infinities_and_leave_words_out():
    assert numbers({"a": {"b": {"c": float("inf")}}, "d": "x", "e": [1], "f": True}) == {"a/b/c": float("inf")}


def test_tensorboards_files_hold_the_numbers(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    some = Loggers(["tensorboard"], folder=tmp_path, settings={"method": "kd"}, warn=pytest.fail)
    for epoch in (1, 2):
        some.log(ENTRY, step=epoch)
    some.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(one.step, one.value) for one in events.Scalars("val/top1")] == [(1, 0.25), (2, 0.25)]


def test_weights_and_biases_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "own"))
    folder = tmp_path / "run"
    folder.mkdir()
    some = Loggers(["wandb"], folder=folder, settings={"method": "kd"}, warn=pytest.fail)
    some.log(ENTRY, step=1)
    some.close()
    (written,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 30  # its own process writes, a moment later
    while b"val/top1" not in written.read_bytes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert b"val/top1" in written.read_bytes()


def test_a_trace_of_the_steps_asked_for(tmp_path):
    seen = 0
    with StepTrace(tmp_path / "trace.json", steps=4, skipped=1) as trace:
        while not trace.done:
            with torch.profiler.record_function("my step"):
                torch.ones(8, 8) @ torch.ones(8, 8)
            seen += 1
            trace.step()
    assert seen == 1 + 2 + 4
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "my step" and event.get("ph") == "X" for event in events) == 4
    assert "aten::mm" in (tmp_path / "trace.txt").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["trace.json", "trace.txt"]


def test_a_run_that_ends_early_writes_what_there_is(tmp_path):
    with StepTrace(tmp_path / "trace.json", skipped=1) as trace:
        for _ in range(5):
            torch.ones(8, 8) @ torch.ones(8, 8)
            trace.step()
    assert trace.done
    with (
        pytest.raises(KdvizError, match="the run has only 2 steps"),
        StepTrace(tmp_path / "none.json", skipped=1) as trace,
    ):
        for _ in range(2):
            trace.step()
    assert not (tmp_path / "none.json").exists()
    with pytest.raises(KdvizError, match="must be above 0"):
        StepTrace(tmp_path / "x.json", steps=0)
