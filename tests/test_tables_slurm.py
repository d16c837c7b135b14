"""A small table by a real Slurm of one node, whose tasks are killed again and again."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest
import slurm_node

from kdviz.base import lock
from kdviz.base.check import KdvizError
from kdviz.base.signals import stop_requested
from kdviz.checkpoints import RunFolder
from kdviz.tables import slurm
from kdviz.tables.queue import DONE, RUNNING, Queue, Worker

HERE = Path(__file__).parent
KILLS, RUNS = 4, 5
TABLE = """
recipe = "recipe.toml"
title = "Small"
imports = ["tiny"]
seeds = 2
columns = [{ teacher = "resnet8", student = "resnet8" }]
rows = [{ name = "Teacher" }, { name = "CE", method = "ce" }, { name = "KD", method = "kd" }]
"""
RECIPE = 'data = "tiny"\nstudent = "resnet8"\nmethod = "ce"\nepochs = 4\nbatch = 48\nlr = 0.05\n'


def kill_while_training(queue, plan, environment, command, draw, kills):
    """Kill a task that trains, so many times: by Slurm, which asks it to end first, or its process with -9."""
    for number in range(kills):
        time.sleep(draw.uniform(0, 1.5))
        while not (jobs := training(queue, plan)):
            if command.poll() is not None:
                return number
            time.sleep(0.1)
        pid = draw.choice(sorted(jobs))
        if number % 2:
            subprocess.run(["scancel", "--signal=KILL", jobs[pid]], env=environment, check=False)
        else:
            os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.1)
    return kills


def training(queue, plan):
    """The live processes that hold a run of the plan, and the Slurm job of each."""
    found = {}
    for worker in [one.worker for one in queue.entries(plan) if one.state == RUNNING]:
        pid = int(worker.rsplit("-", 2)[1])
        with suppress(OSError):
            about = Path(f"/proc/{pid}/environ").read_bytes()
            found[pid] = re.search(rb"SLURM_JOB_ID=(\d+)", about)[1].decode()
    return found


@pytest.mark.slow
@pytest.mark.skipif(bool(slurm_node.missing()), reason=slurm_node.missing())
def test_killed_tasks_are_replaced_and_no_run_is_lost_or_finished_twice(tmp_path):
    pytest.importorskip("submitit")
    (tmp_path / "mine.toml").write_text(TABLE)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    words = [sys.executable, "-m", "kdviz", "table", "mine.toml", "--runs", "runs", "-o", "out"]
    words += ["--save-minutes", "0.001", "--slurm", "--max-jobs", "2"]
    words += ["--slurm-option", "cpus-per-task=1", "--slurm-option", "time=10"]
    queue = Queue(tmp_path / "runs" / "queue.sqlite")
    with slurm_node.slurm(tmp_path / "slurm", cpus=2) as environment:
        environment["PYTHONPATH"] = os.pathsep.join([str(HERE), str(HERE.parent)])
        with (tmp_path / "out.txt").open("w") as log:
            command = subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=log, stderr=log)
            plan = str((tmp_path / "out").resolve())
            kills = kill_while_training(queue, plan, environment, command, random.Random(0), KILLS)
            assert command.wait(400) == 0, (tmp_path / "out.txt").read_text()
        assert kills == KILLS
    entries = queue.entries(plan)
    assert [entry.state for entry in entries] == [DONE] * RUNS
    for entry in entries:
        happened = [what for name, what in queue.events() if name == entry.id]
        assert happened.count("done") == 1
        events = RunFolder(Path(entry.payload["folder"])).events()
        assert [event["epoch"] for event in events if event["event"] == "epoch"] == [1, 2, 3, 4]
        assert sum(event["event"] == "end" for event in events) == 1
    assert sum(what == "died" for _, what in queue.events()) > 0


@pytest.mark.parametrize(("late", "happened"), [(False, ["taken", "released"]), (True, ["taken", "done"])])
def test_the_signal_before_the_time_limit_ends_the_run_in_hand_before_the_task_is_requeued(
    late, happened, tmp_path, monkeypatch
):
    """Early, the run is saved and given back; late, after its last step, it is finished, and no other one is begun."""
    pytest.importorskip("submitit")
    monkeypatch.setattr("torch.set_num_threads", lambda count: None)
    queue, seen = Queue(tmp_path / "queue.sqlite"), []
    queue.put("plan", [("one", {"folder": "one"}, None), ("two", {"folder": "two"}, None)])

    def perform(payload, **_):
        with stop_requested() as stop:
            signal.raise_signal(signal.SIGUSR2)
            assert stop.is_set()
            seen.append("saved")
            if not late:
                raise KeyboardInterrupt

    def requeue(number, frame):
        seen.append([what for _, what in queue.events()])
        sys.exit(-1)

    monkeypatch.setattr("kdviz.tables.worker.perform", perform)
    before = signal.signal(signal.SIGUSR2, requeue)  # submitit's, which exits
    try:
        with pytest.raises(SystemExit):
            slurm.Task(queue.path, "plan", "cpu", 1.0)()
        assert signal.getsignal(signal.SIGUSR2) is requeue
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert seen == ["saved", happened]


def test_the_lock_of_a_worker_that_died_on_another_host_is_removed(tmp_path, monkeypatch):
    queue = Queue(tmp_path / "queue.sqlite")
    queue.put("plan", [("run", {}, None)])
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr("socket.gethostname", lambda: "node-1")
        dead = Worker(tmp_path)
        queue.take("plan", dead)
        text = lock._acquire(tmp_path / "run")
    monkeypatch.setattr("kdviz.tables.queue.LEASE", -1.0)
    with closing(dead), closing(Worker(tmp_path)) as worker:
        assert queue.take("plan", worker).id == "run"
    assert queue.dead("run") == [("node-1", os.getpid())]
    with pytest.raises(KdvizError, match="in use by process"), lock.locked(tmp_path / "run"):
        pass
    lock.forget(tmp_path / "run", host="node-2", pid=os.getpid())
    assert (tmp_path / "run" / lock.NAME).read_text() == text
    for host, pid in queue.dead("run"):
        lock.forget(tmp_path / "run", host=host, pid=pid)
    with lock.locked(tmp_path / "run"):
        pass


def test_without_slurm_or_submitit_the_command_says_what_is_missing(tmp_path, monkeypatch):
    queue = Queue(tmp_path / "queue.sqlite")
    task = slurm.Task(queue.path, "plan", None, 1.0)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(KdvizError, match=r"pip install 'kdviz\[cluster\]'"):
        slurm.run(queue, task, most=1, options={})
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(KdvizError, match="needs Slurm's sbatch"):
        slurm.run(queue, task, most=1, options={})
