"""Two ranks of torchrun on the CPU make the landscape of one, also after one of them was killed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr

from kdviz.analysis.landscape import distributed, sweep

WORKER = """
import os, signal, sys, time
import numpy as np, torch
from kdviz.analysis.landscape.distributed import distributed_sweep
from kdviz.base.processes import rank_and_world

torch.set_num_threads(1)
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
images, labels = torch.randn(32, 4), torch.arange(32) % 3
weights = {name: tensor.detach() for name, tensor in net.named_parameters()}
directions = [{name: torch.randn_like(tensor) for name, tensor in weights.items()} for _ in range(2)]
axis = np.linspace(-1, 1, 7)
calls = 0

def objective(at):
    global calls
    calls += 1
    if calls == 1:  # a rank that starts late on a busy machine would find nothing left to do
        open(f"{sys.argv[1]}/start/{os.environ.get('RANK', 0)}", "w").close()
        while len(os.listdir(sys.argv[1] + "/start")) < int(os.environ.get("WORLD_SIZE", 1)):
            time.sleep(0.01)
    if calls == int(os.environ.get("KILL_AT", "-1")) and os.environ.get("RANK") == "1":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.02)
    logits = torch.func.functional_call(net, at, (images,))
    return {"ce": torch.nn.functional.cross_entropy(logits, labels)}

folder = sys.argv[1]
result = distributed_sweep(objective, weights, directions, axis, axis, journal=folder + "/points.jsonl")
print(f"rank {rank_and_world()[0]}: {calls} calls", flush=True)
if result is not None:
    result.to_netcdf(folder + "/result.nc", engine="h5netcdf")
"""


def placed(folder):
    """The worker in its folder, with an empty one where its ranks meet."""
    (folder / "start").mkdir(exist_ok=True)
    for mark in (folder / "start").iterdir():
        mark.unlink()
    (folder / "worker.py").write_text(WORKER)
    return folder / "worker.py"


def one_process(folder):
    command = [sys.executable, str(placed(folder)), str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=400)


def torchrun(folder, ranks, **environment):
    worker = placed(folder)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        str(ranks),
        "--rdzv-backend",
        "c10d",
        "--rdzv-endpoint",
        "127.0.0.1:0",
        str(worker),
        str(folder),
    ]
    return subprocess.run(
        command, env={**os.environ, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, timeout=400
    )


def calls_of(run):
    return {int(line.split()[1][:-1]): int(line.split()[2]) for line in run.stdout.splitlines() if "calls" in line}


@pytest.fixture(scope="module")
def single(tmp_path_factory):
    folder = tmp_path_factory.mktemp("single")
    run = one_process(folder)
    assert run.returncode == 0, run.stderr
    return xr.load_dataset(folder / "result.nc", engine="h5netcdf")


def test_two_ranks_make_the_landscape_of_one(tmp_path, single):
    run = torchrun(tmp_path, 2)
    assert run.returncode == 0, run.stderr
    both = xr.load_dataset(tmp_path / "result.nc", engine="h5netcdf")
    np.testing.assert_allclose(both.ce, single.ce, rtol=1e-6)
    assert both.attrs["kind"] == "landscape"
    assert (both.attrs["ranks"], both.attrs["points_done"]) == (2, 49)
    calls = calls_of(run)
    assert sum(calls.values()) == 49
    assert min(calls.values()) > 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["points.jsonl", "result.nc", "start", "worker.py"]


def test_a_killed_rank_loses_its_current_point_and_another_number_of_ranks_finishes(tmp_path, single):
    run = torchrun(tmp_path, 2, KILL_AT="6")
    assert run.returncode != 0
    assert not (tmp_path / "result.nc").exists()
    parts = {path.name: path.read_text().splitlines()[1:] for path in tmp_path.glob("points.jsonl.rank*")}
    assert len(parts["points.jsonl.rank1"]) == 5
    done = [json.loads(line)["point"] for part in parts.values() for line in part]
    assert len(done) == len(set(done)) < 49
    # Points are handed out in turn: of those up to the last one done only the killed rank's is missing.
    again = one_process(tmp_path)
    assert again.returncode == 0, again.stderr
    assert sum(calls_of(again).values()) == 49 - len(done)
    found = xr.load_dataset(tmp_path / "result.nc", engine="h5netcdf")
    np.testing.assert_allclose(found.ce, single.ce, rtol=1e-6)


def bowl(at):
    return {"loss": at["x"].square().sum()}


SPOT = {"x": torch.zeros(2)}
PAIR = ({"x": torch.tensor([1.0, 0.0])}, {"x": torch.tensor([0.0, 1.0])})
AXIS = [-1.0, 0.0, 2.0]


def test_on_one_process_it_is_a_sweep_and_either_resumes_the_other(tmp_path):
    journal = tmp_path / "points.jsonl"
    found = distributed.distributed_sweep(bowl, SPOT, PAIR, AXIS, AXIS, journal=journal)
    whole = sweep(bowl, SPOT, PAIR, AXIS, AXIS)
    np.testing.assert_array_equal(found.loss, whole.loss)
    np.testing.assert_array_equal(found.loss, np.add.outer(np.square(AXIS), np.square(AXIS)))

    def never(at):
        raise AssertionError("a finished point was computed again")

    np.testing.assert_array_equal(sweep(never, SPOT, PAIR, AXIS, AXIS, journal=journal).loss, whole.loss)
    again = distributed.distributed_sweep(never, SPOT, PAIR, AXIS, AXIS, journal=journal)
    np.testing.assert_array_equal(again.loss, whole.loss)


def test_points_that_never_came_back_are_done_by_rank_0(tmp_path, monkeypatch):
    class Greedy:
        """A store in which another rank takes every second point and is never heard of again."""

        def __init__(self):
            self.value = 0

        def add(self, key, amount):
            self.value += 2
            return self.value

    monkeypatch.setattr(distributed, "shared_store", lambda *_: Greedy())
    monkeypatch.setattr(distributed, "PATIENCE", 0.3)
    found = distributed.distributed_sweep(bowl, SPOT, PAIR, AXIS, AXIS, journal=tmp_path / "points.jsonl")
    np.testing.assert_array_equal(found.loss, np.add.outer(np.square(AXIS), np.square(AXIS)))


def test_journals_of_another_sweep_stay(tmp_path):
    journal = tmp_path / "points.jsonl"
    sweep(bowl, SPOT, PAIR, [0.0, 5.0], [0.0], journal=f"{journal}.rank7")
    found = distributed.distributed_sweep(bowl, SPOT, PAIR, AXIS, AXIS, journal=journal)
    assert found.attrs["points_done"] == 9
    assert (tmp_path / "points.jsonl.rank7").exists()
    assert distributed.merge_journals(tmp_path / "none.jsonl") == {}
