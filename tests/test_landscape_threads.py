"""Chunks in threads: order, errors, cores, and the same logits."""

import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from test_landscape_evaluator import Strange, exact, images, measuring, net

from kdviz.base.threads import in_threads


@pytest.fixture
def two_cores():
    kept = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(kept)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_results_keep_the_order_of_the_items_whoever_is_done_first(count):
    meeting = threading.Barrier(count)

    def slow(i):
        if i < count:
            meeting.wait(60)  # passes only if so many work at the same time
        time.sleep(0.01 if i % 3 == 0 else 0)
        return i

    assert in_threads(slow, iter(range(20)), count) == list(range(20))
    assert in_threads(slow, [], count) == []


def test_each_thread_uses_one_core_and_the_callers_number_stays(two_cores):
    assert set(in_threads(lambda _: torch.get_num_threads(), range(8), 3)) == {1}
    assert torch.get_num_threads() == 2
    seen = []
    fresh = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    fresh.start()
    fresh.join()
    assert seen == [2]


def test_items_are_reported_once_they_are_done():
    for count in (1, 3):
        told = []
        in_threads(lambda i: -i, range(10), count, done=told.append)
        assert sorted(told) == list(range(10))


def test_without_a_number_there_are_as_many_threads_as_torch_has(two_cores):
    inner = in_threads(lambda _: in_threads(lambda _: threading.get_ident(), range(5)), range(8))
    assert len({ident for each in inner for ident in each}) <= 2
    assert all(len(set(each)) == 1 for each in inner), "a thread of one core starts no others"
    assert in_threads(lambda _: threading.get_ident(), [0]) == [threading.get_ident()], "a lone item is the caller's"


def test_a_forked_process_starts_threads_of_its_own():
    code = (
        "import os, signal\nfrom kdviz.base.threads import in_threads\n"
        "assert in_threads(abs, range(4), 2) == [0, 1, 2, 3]\n"
        "child = os.fork()\n"
        "if not child:\n    signal.alarm(40)\n    os._exit(in_threads(abs, range(4), 2) != [0, 1, 2, 3])\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


def test_no_more_items_are_taken_than_threads_work_on():
    taken, done, ahead = [], [], []

    def items():
        for i in range(30):
            taken.append(i)
            ahead.append(len(taken) - len(done))
            yield i

    in_threads(lambda i: (time.sleep(0.001), done.append(i)), items(), 3)
    assert max(ahead) <= 3
    assert len(done) == 30


def test_an_error_ends_it_after_the_items_in_hand():
    done = []

    def work(i):
        if i == 3:
            raise ValueError("the third")
        time.sleep(0.01)
        done.append(i)

    with pytest.raises(ValueError, match="the third"):
        in_threads(work, range(1000), 2)
    at_once = len(done)
    time.sleep(0.05)
    assert at_once == len(done) < 10
    assert in_threads(lambda i: -i, range(3), 2) == [0, -1, -2], "the threads serve again"


@pytest.mark.parametrize("chunk", [3, "auto"])
def test_logits_in_threads_are_the_nets(two_cores, chunk):
    model, data = net("resnet8"), images(50)
    evaluator = measuring(model, data, chunk=chunk)
    assert evaluator.threads == 2
    truth = exact(model, data)
    for _ in range(3):
        np.testing.assert_allclose(evaluator.logits({}), truth, atol=1e-5 * np.abs(truth).max())
    assert measuring(model, data, chunk=50).threads == 1, "a lone chunk goes by all cores"


def test_a_net_with_code_or_hooks_of_its_own_runs_in_one_thread(two_cores):
    torch.manual_seed(0)
    assert measuring(Strange().eval(), images(), chunk=4).threads == 1
    hooked = net()
    hooked.fc.register_forward_hook(lambda *_: None)
    assert measuring(hooked, images(), chunk=4).threads == 1
