"""The queue: one worker per job, teachers first, dead workers' jobs freed at once, nothing finished twice."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kdviz.base.check import KdvizError
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.tables import queue as module
from kdviz.tables.queue import DEATHS, DONE, FAILED, FAILURES, RUNNING, WAITING, Queue, Worker
from kdviz.tables.status import page, plain, rates, status

HOLDER = """
import sys
from pathlib import Path
from kdviz.tables.queue import Queue, Worker
path = Path(sys.argv[1])
worker = Worker(path.parent)
print(Queue(path).take("plan", worker).id, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def queue(tmp_path):
    found = Queue(tmp_path / "queue.sqlite")
    jobs = [("teacher", {}, None), ("a", {}, "teacher"), ("b", {}, None)]
    found.put("plan", [(name, payload_of(tmp_path, name), after) for name, _, after in jobs])
    return found


def payload_of(folder, name):
    return {"folder": str(folder / name), "recipe": {"epochs": 4}}


@pytest.fixture
def worker(tmp_path):
    found = Worker(tmp_path)
    yield found
    found.close()


def states(queue):
    return {entry.id: entry.state for entry in queue.entries("plan")}


def test_a_job_is_taken_once_and_waits_for_its_teacher(queue, worker, tmp_path):
    other = Worker(tmp_path)
    assert queue.take("plan", worker).id == "teacher"
    assert queue.take("plan", other).id == "b"
    assert queue.take("plan", other) is None
    assert queue.finish("teacher", worker)
    assert queue.take("plan", worker).id == "a"
    other.close()


def test_only_its_own_worker_finishes_a_job_and_only_once(queue, worker, tmp_path):
    other = Worker(tmp_path)
    queue.take("plan", worker)
    assert not queue.finish("teacher", other)
    assert queue.finish("teacher", worker)
    assert not queue.finish("teacher", worker)
    assert [what for name, what in queue.events("teacher")] == ["taken", "done"]
    other.close()


def test_a_plan_takes_none_but_its_own_jobs(queue, worker, tmp_path):
    queue.put("other plan", [("c", payload_of(tmp_path, "c"), None)])
    assert queue.take("other plan", worker).id == "c"
    assert queue.take("other plan", worker) is None


def test_an_error_is_tried_again_and_then_given_up(queue, worker):
    for attempt in range(1, FAILURES + 1):
        assert queue.take("plan", worker).id == "teacher"
        queue.fail("teacher", worker, "out of memory", final=False)
        assert states(queue)["teacher"] == (FAILED if attempt == FAILURES else WAITING)
    assert queue.take("plan", worker).id == "b"
    queue.finish("b", worker)
    assert not queue.open("plan")  # a waits for a teacher that has failed
    found = status(queue.entries("plan"))
    assert (found.done, found.waiting, found.failed) == (1, 0, (("teacher", "out of memory"),))
    assert found.blocked == (("a", "its teacher failed: teacher"),)


def test_a_final_error_is_not_tried_again_until_asked(queue, worker, tmp_path):
    queue.take("plan", worker)
    queue.fail("teacher", worker, "no such data set", final=True)
    assert states(queue)["teacher"] == FAILED
    queue.put("plan", [("teacher", payload_of(tmp_path, "teacher"), None)])
    assert states(queue) == {"teacher": WAITING}


def test_a_released_job_is_free(queue, worker):
    queue.take("plan", worker)
    assert queue.release("teacher", worker)
    assert queue.take("plan", worker).id == "teacher"


def test_putting_again_leaves_running_jobs_alone(queue, worker, tmp_path):
    queue.take("plan", worker)
    queue.put("plan", [(name, payload_of(tmp_path, name), None) for name in ("teacher", "b")], {"b"})
    assert states(queue) == {"teacher": RUNNING, "b": DONE}


def hold(queue):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(queue.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(module.__file__).parents[2])},
    )
    assert holder.stdout.readline().strip() == "teacher"
    return holder


def test_the_job_of_a_killed_worker_is_free_at_once_and_that_of_a_stopped_one_is_not(queue, worker):
    with hold(queue) as holder:
        os.kill(holder.pid, signal.SIGSTOP)
        assert queue.take("plan", worker).id == "b"
        holder.kill()
        holder.wait()
        assert queue.take("plan", worker).id == "teacher"
    assert [what for name, what in queue.events("teacher")] == ["taken", "died", "taken"]


def test_another_hosts_worker_is_dead_without_a_heartbeat(queue, worker, monkeypatch):
    queue.take("plan", worker)
    monkeypatch.setattr(module.socket, "gethostname", lambda: "elsewhere")
    other = Worker(queue.path.parent)
    assert queue.take("plan", other).id == "b"
    monkeypatch.setattr(module, "LEASE", -1.0)
    assert queue.take("plan", other).id == "teacher"
    assert not queue.finish("teacher", worker)
    assert not queue.beat(worker)
    other.close()


def test_a_job_that_kills_its_workers_is_given_up(queue, tmp_path):
    for _ in range(DEATHS):
        dying = Worker(tmp_path)
        assert queue.take("plan", dying).id == "teacher"
        dying.close()
    assert queue.open("plan")  # b
    assert states(queue)["teacher"] == FAILED
    assert "died 20 times" in queue.entries("plan")[0].line


def test_status_reads_epochs_and_pace_from_the_journals(queue, worker, tmp_path):
    run = RunFolder(tmp_path / "teacher")
    run.log("start", name="resnet8", data="tiny", method="kd", teacher={"name": "resnet20"})
    for epoch, rate in ((1, 300), (2, 412)):
        run.log("epoch", epoch=epoch, images_per_second=rate, val={"ap": rate / 1000, "ap50": 0.9})
    with run.journal.open("ab") as stream:
        stream.write(b'{"event": "epo')  # a worker is writing
    queue.take("plan", worker)
    text = plain(status(queue.entries("plan")), "mine")
    assert text.splitlines() == [
        "mine: 0 of 3 runs done, 1 running, 2 waiting",
        "running  teacher: epoch 2 of 4 done, 412 images/s, val AP 41.20%",
    ]
    assert "http-equiv='refresh'" in page(status(queue.entries("plan")), "<mine>")
    assert "&lt;mine&gt;" in page(status(queue.entries("plan")), "<mine>")
    assert rates([tmp_path])["tiny", "resnet8", "resnet20", "kd"] == [356.0]  # the median of its epochs


def test_a_damaged_queue_is_one_line(tmp_path):
    (tmp_path / "queue.sqlite").write_bytes(b"no database at all, but long enough to be read as one" * 40)
    with pytest.raises(KdvizError, match="queue cannot be used"):
        Queue(tmp_path / "queue.sqlite")
