"""Two processes of torchrun train the detector of one, draw what it draws and measure what it measures."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_train_distributed import farthest, torchrun, weights
from tiny_detector import SIDE, Small, uneven

from kdviz.base.check import KdvizError
from kdviz.checkpoints import RunFolder, load_checkpoint, save_checkpoint
from kdviz.models import build
from kdviz.models.detection import at_size, torchvision_detection, train_pass
from kdviz.models.detection.sampling import RegionSampler
from kdviz.train import load_recipe, train
from kdviz.train.detection.batches import BoxBatches
from kdviz.train.detection.score import detect
from kdviz.train.detection.setup import _check_shared
from kdviz.train.distributed import Ranks
from kdviz.train.setup import prepare

pytestmark = pytest.mark.filterwarnings("ignore:KDVIZ_TORCHVISION_FALLBACK")
HERE = Path(__file__).parent
CPU = torch.device("cpu")
EVERY = "roi_kd+rk+dist+fpn_fitnet+fgfi"  # means over regions, a term that couples them, means over maps and positions


def recipe(**changes):
    base = {"student": "fasterrcnn_sparse", "data": "uneven", "method": EVERY, "epochs": 1, "batch": 4, "seed": 3}
    base |= {"augment": "flip", "lr": 1e-3, "warmup": 0, "precision": "fp32", "sync_bn": True, "momentum": 0.5}
    return {**base, **changes}


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.pt"
    facts = {"classes": 2, "data": "uneven", "method": "detector", "seed": 1, "epoch": 1, "metrics": {}, "recipe": {}}
    return save_checkpoint(path, model=build("fasterrcnn_wide", classes=2, seed=1), name="fasterrcnn_wide", **facts)


def in_two_processes(folder, cases):
    """Run the cases by two processes that meet as torchrun's do, without torchrun."""
    path = folder / "cases.json"
    path.write_text(json.dumps({**cases, "imports": ["tiny_detector"]}))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]), "OMP_NUM_THREADS": "1"}
    common |= {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    words = [sys.executable, "-W", "ignore:KDVIZ_TORCHVISION_FALLBACK", str(HERE / "torchrun_train.py"), str(path)]
    both = [
        subprocess.Popen(words, env={**common, "RANK": rank, "LOCAL_RANK": rank}, stderr=subprocess.PIPE, text=True)
        for rank in "01"
    ]
    try:
        return [(one.communicate(timeout=120)[1], one.returncode) for one in both]
    finally:
        for one in both:
            one.kill()


def test_two_processes_train_the_detector_of_one(tmp_path, teacher):
    case = recipe(accumulate=2, limit=8, ema=0.5, score_every=1)
    two, one = tmp_path / "two", tmp_path / "one"
    for stderr, code in in_two_processes(
        tmp_path, {"teacher": str(teacher), "runs": [{"out": str(two), "recipe": case}]}
    ):
        assert (stderr, code) == ("", 0)
    found, taught = load_recipe(**case), load_checkpoint(teacher)
    train(found, out=one, teacher=taught, device="cpu")
    start = prepare(found, RunFolder(tmp_path), teacher=taught, device="cpu").student.state_dict()
    assert farthest(weights(one), weights(two)) < 1e-5
    assert farthest(weights(one, "ema.pt"), weights(two, "ema.pt")) < 1e-5
    assert farthest(start, weights(one)) > 1e-3
    (alone,), (shared,) = RunFolder(one).epochs(), RunFolder(two).epochs()
    assert shared["train"] == pytest.approx(alone["train"], rel=1e-4)  # the ranking loss is steep
    assert len(alone["train"]) == 7
    assert all(abs(value) > 1e-4 for value in alone["train"].values())
    for split in ("val", "ema", "test"):
        assert shared[split] == pytest.approx(alone[split], abs=1e-6)
    assert [event["event"] for event in RunFolder(two).events()] == ["start", "epoch", "end"]
    assert RunFolder(two).events("start")[0]["processes"] == "2"


@pytest.mark.slow
def test_a_killed_process_is_started_again_and_the_detector_is_the_same(tmp_path):
    torch.save(Small().state_dict(), tmp_path / "backbone.pt")
    settings = recipe(
        method="detector", epochs=2, lr=0.01, sync_bn=False, limit=8, backbone=str(tmp_path / "backbone.pt")
    )
    whole, killed = (
        {"runs": [{"out": str(tmp_path / place), "recipe": settings, "machine": {"save_minutes": 0}}]}
        for place in ("whole", "killed")
    )
    assert [code for _, code in in_two_processes(tmp_path, whole)] == [0, 0]
    ended = torchrun(tmp_path, {**killed, "imports": ["tiny_detector"]}, kill=(1, 3), restarts=1)
    assert ended.returncode == 0, ended.stderr
    found, wanted = weights(tmp_path / "killed"), weights(tmp_path / "whole")
    assert all(torch.equal(found[key], wanted[key]) for key in wanted)
    events = [event["event"] for event in RunFolder(tmp_path / "killed").events()]
    assert [event for event in events if event != "failed"] == ["start", "epoch", "resume", "epoch", "end"]


@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_processes_together_see_and_draw_what_one_does(accumulate):
    found = load_recipe(**recipe(batch=8, accumulate=accumulate, limit=8))
    whole = BoxBatches(found, uneven("train").subset(8), CPU)
    shares = [BoxBatches(found, whole.data, CPU, ranks=Ranks(rank, 4 // accumulate)) for rank in range(4 // accumulate)]
    plan = whole.plan(1)
    for number, part in enumerate(whole.get(plan, 0).parts(accumulate)):
        held = [share.get(plan, 0).parts(accumulate)[number] for share in shares]
        assert torch.equal(torch.cat([one.ids for one in held]), part.ids)
        assert sum((one.seeds for one in held), ()) == part.seeds
        assert len(set(part.seeds)) == len(part.seeds)
        for image, same in zip(part.images, [image for one in held for image in one.images], strict=True):
            assert torch.equal(image, same)
        for target, same in zip(part.targets, [target for one in held for target in one.targets], strict=True):
            assert torch.equal(target["boxes"], same["boxes"])


def test_an_image_alone_draws_what_torchvision_draws_from_its_seed():
    torchvision_detection()
    from torchvision.models.detection._utils import BalancedPositiveNegativeSampler

    generator = torch.Generator().manual_seed(0)
    matched = [torch.randint(-1, 3, (count,), generator=generator) for count in (90, 7, 40)]
    matched.append(torch.zeros(50, dtype=torch.int64))
    ours, theirs = RegionSampler(20, 0.25), BalancedPositiveNegativeSampler(20, 0.25)
    ours.generators = [torch.Generator().manual_seed(seed) for seed in range(4)]
    positive, negative = ours(matched)
    for seed, one in enumerate(matched):
        torch.manual_seed(seed)
        (expected,), (rest,) = theirs([one])
        assert torch.equal(positive[seed], expected)
        assert torch.equal(negative[seed], rest)
    assert ours.count == sum(int(one.sum()) for one in (*positive, *negative))
    ours.generators = None
    torch.manual_seed(5)
    found = ours(matched)
    torch.manual_seed(5)
    for mine, wanted in zip(found, theirs(matched), strict=True):
        assert all(map(torch.equal, mine, wanted))


class Held(Ranks):
    """A rank that keeps its rows, or is given those of all."""

    rows: torch.Tensor | None = None

    def below(self, rows):
        given = Held.rows
        Held.rows = rows
        return rows if given is None else torch.cat([given, rows])

    def share_buffers(self, net):
        pass


def test_the_passes_of_a_measurement_are_those_of_one_process_in_its_order():
    net, data = at_size(build("fasterrcnn_small", classes=2, seed=0), SIDE), uneven("train")
    whole = detect(net, data, batch=3)
    detect(net, data, batch=3, ranks=Held(0, 2))
    shared = detect(net, data, batch=3, ranks=Held(1, 2))
    assert len(shared) == len(whole) == len(data)
    assert sum(len(labels) for _, labels, _ in whole) > 50
    for found, wanted in zip(shared, whole, strict=True):
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == other.dtype
            assert torch.equal(one, other)


def test_what_processes_cannot_share_is_one_line(tmp_path, teacher):
    with pytest.raises(KdvizError, match="4 images does not divide over 3 processes into equal shares;"):
        prepare(load_recipe(**recipe(method="detector")), RunFolder(tmp_path), teacher=None, ranks=Ranks(0, 3))
    for method, fine in (("detector+sp", False), ("detector+at+dist", True)):
        found = load_recipe(**recipe(method=method))
        alone = prepare(found, RunFolder(tmp_path), teacher=load_checkpoint(teacher), device="cpu")
        if fine:
            _check_shared(alone.objective)
        else:
            with pytest.raises(KdvizError, match="sp compares the images of a batch by their features"):
                _check_shared(alone.objective)


def test_a_larger_frame_pads_with_nothing_and_is_what_a_wider_neighbour_makes():
    """An image alone in a frame sees what it sees beside a wider image: the same maps, anchors and draws."""
    net = at_size(build("fasterrcnn_small", classes=2, seed=0), SIDE).train()
    for part in net.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.eval()
    data = uneven("train")
    images = [data.images[place].float() / 255 for place in (0, 3)]
    targets = [{"boxes": data.boxes[place].corners, "labels": data.boxes[place].labels + 1} for place in (0, 3)]
    beside = train_pass(net, images, targets, seeds=(1, 2))
    alone = train_pass(net, images[:1], targets[:1], seeds=(1,), frame=lambda _: tuple(beside.images.shape[-2:]))
    assert beside.images.shape[-1] > SIDE
    assert torch.equal(alone.images, beside.images[:1])
    assert torch.equal(alone.proposals[0], beside.proposals[0])
    torch.testing.assert_close(alone.logits, beside.logits[: len(alone.logits)])
    own = train_pass(net, images[:1], targets[:1], seeds=(1,))
    assert len(own.anchors[0]) < len(alone.anchors[0]) == len(beside.anchors[0])
