"""Feature and relation methods against the numbers of their original code, closed forms and common contracts."""

import copy
import json
import math
import signal
import types
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import tiny  # noqa: F401  (registers the data set)
import torch
from golden_nets import LABELS, fill_term, images, net
from torch import nn

from kdviz import load_checkpoint, losses, models
from kdviz.base.check import KdvizError
from kdviz.methods import METHODS, Batch, Probe, build
from kdviz.methods.crd import CRD, OfOtherClasses
from kdviz.methods.fitnet import FitNet, regressor
from kdviz.methods.ofd import OFD, margin
from kdviz.methods.reviewkd import ReviewKD, hierarchical_context
from kdviz.methods.vid import VID
from kdviz.models import Outputs
from kdviz.train import load_recipe, train

GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_feature_methods.json").read_text())
PAIRS = ("resnet20>resnet8", "wrn_16_2>ShuffleV1")
MODULES = {"FitNet": FitNet, "VID": VID, "OFD": OFD, "ReviewKD": ReviewKD, "CRD": CRD}
OWN = {"fitnet", "vid", "ofd", "reviewkd", "crd"}
FEATURE = [
    name
    for name, method in METHODS.items()
    if method.needs & {"features", "preactivations", "pooled"} and "boxes" not in method.needs
]
CASES = [(pair, name) for pair in PAIRS for name in GOLDEN[pair] if not name.startswith("logits")]


@cache
def pair_of(pair):
    """Both nets, and the teacher's outputs."""
    teacher, student = pair.split(">")
    teacher, student = net(teacher, 1), net(student, 2)
    with torch.no_grad():
        return student, teacher, teacher(images(), features=True)


def probe_of(student, teacher, labels, classes=100):
    with torch.no_grad():
        seen = [each(images()[:2].to(next(each.parameters()).dtype), features=True) for each in (student, teacher)]
    return Probe(*seen, classes=classes, labels=labels, teacher_net=teacher)


def golden_crd(probe):
    """The golden memories and candidates."""
    term = CRD(probe, dim=16, negatives=7).double()
    with torch.no_grad():
        for memory, step in ((term.memory_student, 0.5), (term.memory_teacher, 0.9)):
            i = torch.arange(memory.numel(), dtype=torch.float64)
            memory.copy_(torch.sin(step * i + 0.2).view(memory.shape))
            memory /= memory.norm(dim=1, keepdim=True)
    a, b = torch.arange(6)[:, None], torch.arange(1, 8)
    term.draw.forward = lambda own: (7 * a + 11 * b) % 50
    return term


def golden_term(name, pair):
    """A function of the student's outputs, and the term."""
    student, teacher, taught = pair_of(pair)
    batch = Batch(images(), LABELS, 7 * torch.arange(6))
    if name not in MODULES:
        named = {"pooled_teacher": taught.pooled, "features_teacher": taught.features[1:]}
        return lambda out: losses.loss_value(
            name.lower(), pooled_student=out.pooled, features_student=out.features[1:], **named
        ), None
    probe = probe_of(student, teacher, torch.arange(50))
    term = golden_crd(probe) if name == "CRD" else MODULES[name](probe).double()
    shapes = fill_term(term)
    assert ["x".join(map(str, shape)) for shape in shapes] == GOLDEN[pair][name]["weights"]
    warmup = METHODS[name.lower()].terms[1].warmup
    rising = min(10 / warmup, 1.0) if warmup else 1.0
    return lambda out: rising * term(out, taught, batch, epoch=10.0), term


@pytest.mark.parametrize("pair", PAIRS)
def test_filled_nets_are_the_golden_ones(pair):
    student, _, taught = pair_of(pair)
    with torch.no_grad():
        assert student(images()).logits.square().sum().item() == pytest.approx(
            GOLDEN[pair]["logits_student_sum_sq"], rel=1e-10
        )
    assert taught.logits.square().sum().item() == pytest.approx(GOLDEN[pair]["logits_teacher_sum_sq"], rel=1e-10)


@pytest.mark.parametrize(("pair", "name"), CASES)
def test_golden_values_and_gradients(pair, name):
    student, golden = pair_of(pair)[0], GOLDEN[pair][name]
    of_outputs, term = golden_term(name, pair)
    value = of_outputs(student(images(), features=True))
    assert value.item() == pytest.approx(golden["value"], rel=1e-9)
    slope = torch.autograd.grad(value, student.conv1.weight)[0]
    assert slope.norm().item() == pytest.approx(golden["grad_norm_first_conv"], rel=1e-9)
    if term is not None and name == "CRD":
        torch.testing.assert_close(term.log_z.exp(), torch.tensor(golden["Z"], dtype=torch.float64), rtol=1e-9, atol=0)
        for side in ("student", "teacher"):
            row = getattr(term, f"memory_{side}")[7, :3]
            torch.testing.assert_close(
                row, torch.tensor(golden[f"memory_{side}_7_first3"], dtype=torch.float64), rtol=1e-9, atol=0
            )
        with torch.no_grad():
            again = of_outputs(student(images(), features=True))
        assert again.item() == pytest.approx(golden["value_second_call"], rel=1e-9)


# Closed forms


GENERATOR = torch.Generator().manual_seed(0)
SMALL, LARGE = torch.rand(3, 4, 2, 2, generator=GENERATOR), torch.rand(3, 5, 4, 4, generator=GENERATOR)


def halved(maps):
    n, c, h, w = maps.shape
    return maps.reshape(n, c, h // 2, 2, w // 2, 2).mean((3, 5))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def test_attention_is_compared_at_the_smaller_size():
    student, teacher = (unit((maps.numpy() ** 2).mean(1).reshape(3, -1)) for maps in (SMALL, halved(LARGE)))
    expected = ((student - teacher) ** 2).mean()
    assert losses.at([SMALL], [LARGE]).item() == pytest.approx(expected, rel=1e-5)
    assert losses.at([LARGE, SMALL], [SMALL, SMALL]).item() == pytest.approx(expected, rel=1e-5)


def test_nst_is_the_distance_of_the_patterns_second_moments():
    """k(x, y) = <x, y>^2 embeds x as the matrix x x'; the discrepancy is the distance between the means of those."""
    moments = []
    for maps in (SMALL, halved(LARGE)):
        patterns = unit(maps.numpy().reshape(3, maps.shape[1], -1))
        moments.append(np.einsum("ncp,ncq->npq", patterns, patterns) / maps.shape[1])
    expected = ((moments[0] - moments[1]) ** 2).sum((1, 2)).mean()
    assert losses.nst([SMALL], [LARGE]).item() == pytest.approx(expected, rel=1e-4)


def test_similarities_of_the_last_map_alone_count():
    grams = [unit(maps.reshape(3, -1) @ maps.reshape(3, -1).T) for maps in (SMALL.numpy(), LARGE.numpy())]
    expected = ((grams[0] - grams[1]) ** 2).sum() / 9
    for given in (([SMALL], [LARGE]), ([LARGE, SMALL], [LARGE]), (SMALL, LARGE)):
        assert losses.sp(*given).item() == pytest.approx(expected, rel=1e-4)


def test_pkt_is_scipys_relative_entropy():
    student, teacher = (
        (lambda gram: gram / gram.sum(1, keepdims=True))((unit(x) @ unit(x).T + 1) / 2)
        for x in (SMALL.double().flatten(1).numpy(), LARGE.double().flatten(1).numpy())
    )
    expected = scipy.stats.entropy(teacher, student, axis=1).sum() / 9
    found = losses.pkt(SMALL.double().flatten(1), LARGE.double().flatten(1)).item()
    assert found == pytest.approx(expected, abs=1e-9)  # its 1e-7 in the logarithm


def flat(width, count=4, size=4, rows=2):
    """Outputs whose every stage is zeros."""
    maps = (torch.zeros(rows, width, size, size),) * count
    return Outputs(torch.zeros(rows, 5), maps, torch.zeros(rows, width), maps)


def test_fitnet_is_the_error_of_a_regression():
    probe = Probe(flat(3), flat(2), 5, torch.arange(8))
    term = FitNet(probe).eval()
    with torch.no_grad():
        term.conv.weight.copy_(torch.tensor([[1.0, 2.0, 0.0], [0.0, 0.0, -1.0]])[:, :, None, None])
        term.conv.bias.zero_()
    term.bn.eps = 0.0
    learnt, taught = torch.rand(2, 3, 4, 4), torch.rand(2, 2, 4, 4)
    maps = (learnt,) * 4, (taught,) * 4
    found = term(flat(3)._replace(features=maps[0]), flat(2)._replace(features=maps[1]), None, epoch=0.0)
    a, b, _ = learnt.unbind(1)
    predicted = torch.stack([a + 2 * b, torch.zeros_like(a)], 1)  # the second channel is negative, so its ReLU is 0
    assert found.item() == pytest.approx((predicted - taught).square().mean().item(), rel=1e-6)


@pytest.mark.parametrize(
    ("here", "there", "kernel", "kind"),
    [(8, 4, 3, nn.Conv2d), (4, 8, 4, nn.ConvTranspose2d), (4, 4, 1, nn.Conv2d), (7, 5, 3, nn.Conv2d)],
)
def test_fitnets_regressor_gives_the_teachers_size(here, there, kernel, kind):
    found = regressor(torch.zeros(1, 3, here, here), torch.zeros(1, 2, there, there))
    assert type(found) is kind
    assert found.kernel_size == (kernel, kernel)
    assert found(torch.zeros(1, 3, here, here)).shape == (1, 2, there, there)


def test_vid_is_the_normal_likelihood_but_for_its_constant():
    probe = Probe(flat(3, 2), flat(2, 2, 2), 5, torch.arange(8))
    term = VID(probe, variance=2.0)
    taught = torch.rand(2, 2, 2, 2)
    with torch.no_grad():
        mean = term.regressors[0](torch.ones(2, 3, 2, 2))
        found = term(
            flat(3)._replace(features=(None, torch.ones(2, 3, 4, 4))),
            flat(2)._replace(features=(None, taught)),
            None,
            epoch=0.0,
        )
    likelihood = scipy.stats.norm(mean.numpy(), math.sqrt(2)).logpdf(taught.numpy())
    assert found.item() == pytest.approx(-likelihood.mean() - math.log(2 * math.pi) / 2, rel=1e-5)


@pytest.mark.parametrize(("mean", "deviation"), [(0.0, 1.0), (-0.7, 0.5), (1.2, 0.8), (2.9, -1.0)])
def test_margins_are_means_of_the_truncated_normal_distribution(mean, deviation):
    norm = nn.BatchNorm2d(1).double()
    nn.init.constant_(norm.bias, mean)
    nn.init.constant_(norm.weight, deviation)
    s = abs(deviation)
    expected = scipy.stats.truncnorm(-np.inf, -mean / s, loc=mean, scale=s).mean()
    assert margin(norm).item() == pytest.approx(expected, rel=1e-9)


def test_margins_of_channels_that_are_hardly_ever_negative_and_of_constant_ones():
    norm = nn.BatchNorm2d(3)
    norm.bias.data = torch.tensor([3.2, 0.5, -0.5])
    norm.weight.data = torch.tensor([1.0, 0.0, 0.0])
    torch.testing.assert_close(margin(norm), torch.tensor([-3.0, 0.0, -0.5]))


def test_ofd_asks_of_a_negative_teacher_only_that_the_student_is_below_it():
    taught = torch.tensor([2.0, 2.0, -0.4, -0.4, -9.0, -9.0])  # the margin of a standard norm is -.798
    learnt = torch.tensor([1.0, 3.0, 0.5, -0.6, 0.2, -5.0])
    paid = [1.0, 1.0, 0.9**2, 0.0, (0.2 + math.sqrt(2 / math.pi)) ** 2, 0.0]
    stage = torch.zeros(1, 1, 1, 6)
    outputs = Outputs(torch.zeros(1, 5), preactivations=(stage, stage, stage))
    teacher = types.SimpleNamespace(bn_before_relu=lambda: [nn.BatchNorm2d(1)] * 2)
    term = OFD(Probe(outputs, outputs, 5, torch.arange(8), 0, teacher)).eval()
    for connect in term.connectors:
        nn.init.ones_(connect[0].weight)
        connect[1].eps = 0.0
    for place, share in ((1, 0.5), (2, 1.0)):
        maps = [[stage, -stage - 9, -stage - 9] for _ in range(2)]  # a stage where nothing is paid
        maps[0][place], maps[1][place] = learnt.view(1, 1, 1, 6), taught.view(1, 1, 1, 6)
        found = term(*(outputs._replace(preactivations=tuple(each)) for each in maps), None, epoch=0.0)
        assert found.item() == pytest.approx(share * sum(paid), rel=1e-5)


def test_hierarchical_context_weighs_the_pools_smaller_than_the_map():
    student, teacher = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    gap = student - teacher
    pools = [gap, halved(gap), halved(halved(gap)), gap.mean((2, 3))]
    expected = sum(weight * each.square().mean() for weight, each in zip((1, 0.5, 0.25, 0.125), pools, strict=True))
    assert hierarchical_context(student, teacher).item() == pytest.approx(float(expected / 1.875), rel=1e-5)
    four = gap[:, :, :4, :4]
    expected = four.square().mean() + halved(four).square().mean() / 2 + four.mean((2, 3)).square().mean() / 4
    found = hierarchical_context(student[:, :, :4, :4], teacher[:, :, :4, :4])
    assert found.item() == pytest.approx(float(expected / 1.75), rel=1e-5)


# Contrast


def crd_of(labels, *, classes=5, **settings):
    return CRD(Probe(flat(3), flat(4), classes, labels), **settings)


def contrast(embedding, memory, chosen, temperature, noise):
    """One side of CRD's loss with the formula's own exponentials; Z from these scores."""
    p = np.exp(np.einsum("nkd,nd->nk", memory[chosen], embedding) / temperature)
    p /= p.mean() * len(memory)
    own, others = p[:, 0], p[:, 1:]
    return -(np.log(own / (own + noise + 1e-7)).sum() + np.log(noise / (others + noise + 1e-7)).sum()) / len(p)


def test_crd_is_the_papers_formula():
    labels = torch.arange(40) % 5
    term = crd_of(labels, dim=6, negatives=9, temperature=0.3).double()
    out = flat(3)._replace(pooled=torch.rand(4, 3).double()), flat(4)._replace(pooled=torch.rand(4, 4).double())
    ids = torch.tensor([3, 8, 20, 31])
    negatives = term.draw(labels[ids])
    term.draw.forward = lambda own: negatives
    memories = term.memory_student.numpy().copy(), term.memory_teacher.numpy().copy()
    chosen = torch.cat([ids[:, None], negatives], 1).numpy()
    with torch.no_grad():
        s, t = term.embed_s(out[0].pooled).numpy(), term.embed_t(out[1].pooled).numpy()
        found = term(*out, Batch(None, labels[ids], ids), epoch=0.0).item()
    expected = contrast(s, memories[1], chosen, 0.3, 9 / 40) + contrast(t, memories[0], chosen, 0.3, 9 / 40)
    assert found == pytest.approx(expected, rel=1e-9)
    moved = unit((memories[0][ids] + s) / 2)
    np.testing.assert_allclose(term.memory_student[ids], moved, rtol=1e-12)
    still = np.setdiff1d(np.arange(40), ids)
    np.testing.assert_array_equal(term.memory_student[still], memories[0][still])


@pytest.mark.parametrize("replace", [False, True])
def test_negatives_are_uniform_over_the_other_classes(replace):
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 1, 0, 2, 2, 0, 1])
    draw = OfOtherClasses(labels, torch.bincount(labels), 5, replace=replace)
    own = torch.tensor([0, 1, 2]).repeat(2000)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = draw(own)
    assert (labels[drawn] != own[:, None]).all()
    for label in range(3):
        others = (labels != label).nonzero().flatten()
        counts = torch.bincount(drawn[own == label].flatten(), minlength=12)[others]
        assert counts.sum() == 10000
        assert scipy.stats.chisquare(counts.numpy()).pvalue > 1e-3
    distinct = all(len(set(row)) == 5 for row in drawn.tolist())
    assert distinct != replace


def test_crd_replaces_only_where_it_must():
    labels = torch.arange(40) % 5
    assert not crd_of(labels, negatives=32).draw.replace
    assert crd_of(labels, negatives=33).draw.replace


def test_crd_stays_finite_where_exponentials_would_not():
    labels = torch.arange(40) % 5
    term = crd_of(labels, dim=6, negatives=9, temperature=1e-3)
    out = flat(3, rows=4)._replace(pooled=torch.rand(4, 3, requires_grad=True)), flat(4, rows=4)
    value = term(*out, Batch(None, labels[:4], torch.arange(4)), epoch=0.0)
    value.backward()
    assert torch.isfinite(value)
    assert torch.isfinite(out[0].pooled.grad).all()


def test_crd_learns_nothing_outside_training():
    labels = torch.arange(40) % 5
    term = crd_of(labels, dim=6, negatives=9).eval()
    before = {name: tensor.clone() for name, tensor in term.state_dict().items()}
    term(flat(3), flat(4), Batch(None, labels[:2], torch.arange(2)), epoch=0.0)
    for name, tensor in term.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0, equal_nan=True)


# On real nets


LABELS_OF_SPLIT = torch.arange(60) % 6
STEP = {"crd.dim": 8, "crd.negatives": 16}


@cache
def small_nets():
    return tuple(models.build(name, classes=6, seed=1) for name in ("resnet8", "resnet14"))


def objective_of(spec):
    student, teacher = small_nets()
    probe = probe_of(student.eval(), teacher.eval(), LABELS_OF_SPLIT, classes=6)
    given = {key: value for key, value in STEP.items() if "crd" in spec}
    return models_objective(spec, probe, given)


def models_objective(spec, probe, settings):
    return build(spec, classes=6, student="resnet8", teacher="resnet14", settings=settings, probe=probe)


def step_of(objective, *, dtype=torch.float32, seed=0):
    """One step's terms, with the student's and teacher's outputs as leaves that would show a gradient."""
    student, teacher = copy.deepcopy(small_nets())
    pictures = images()[:4].float()
    ids = torch.tensor([0, 7, 14, 21])
    with torch.random.fork_rng(devices=[]), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype != torch.float32):
        torch.manual_seed(seed)
        learnt, taught = student(pictures, features=True), teacher(pictures, features=True)
        terms = objective(learnt, taught, Batch(pictures, LABELS_OF_SPLIT[ids], ids), epoch=10.0)
    return terms, student, teacher


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("spec", [*FEATURE, *(f"{name}+kd+rk" for name in sorted(OWN))])
def test_gradients_reach_the_student_and_the_methods_own_weights_alone(spec, dtype):
    objective = objective_of(spec)
    terms, student, teacher = step_of(objective, dtype=dtype)
    assert all(torch.isfinite(value) for value in terms.values())
    terms["total"].backward()
    assert torch.isfinite(student.conv1.weight.grad).all()
    assert student.conv1.weight.grad.any()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert bool(list(objective.parameters())) == bool(OWN & set(spec.split("+")))
    assert all(torch.isfinite(weight.grad).all() and weight.grad.any() for weight in objective.parameters())


@pytest.mark.parametrize("spec", ["crd", "vid", "fitnet+rk"])
def test_a_restored_state_gives_the_same_next_value(spec):
    first = objective_of(spec)
    optimizer = torch.optim.SGD(first.parameters(), 0.1)
    for seed in range(2):
        optimizer.zero_grad()
        step_of(first, seed=seed)[0]["total"].backward()
        optimizer.step()
    again = objective_of(spec)
    before = step_of(copy.deepcopy(again), seed=9)[0]["total"].item()
    again.load_state_dict(copy.deepcopy(first.state_dict()))
    expected, found = (step_of(one, seed=9)[0]["total"].item() for one in (first, again))
    assert found == expected != before
    for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_the_same_seed_gives_the_same_weights():
    for spec in sorted(OWN):
        one, two = objective_of(spec), objective_of(spec)
        for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("student", "weight"), [("ShuffleV2", 8.0), ("resnet20", 0.6), ("resnet32", 1.0), ("resnet8x4", 5.0), (None, 5.0)]
)
def test_reviewkds_weight_follows_the_student(student, weight):
    small, large = small_nets()
    probe = probe_of(small.eval(), large.eval(), LABELS_OF_SPLIT, classes=6)
    objective = build("reviewkd", classes=6, student=student, teacher="resnet56", probe=probe)
    assert objective.settings["reviewkd.weight"] == weight


@pytest.mark.parametrize("spec", ["crd", "vid"])
def test_a_resumed_run_equals_an_uninterrupted_one(spec, tmp_path):
    """Down to the weights and memories of the method itself."""
    teacher_recipe = load_recipe(student="resnet8", data="tiny", epochs=1, batch=32, limit=64, seed=5)
    train(teacher_recipe, out=tmp_path / "teacher", device="cpu")
    settings = STEP if spec == "crd" else {}
    recipe = load_recipe(student="resnet8", data="tiny", method=spec, epochs=2, batch=32, limit=96, settings=settings)

    def run(out, progress=None):
        teacher = load_checkpoint(tmp_path / "teacher" / "last.pt")
        return train(recipe, out=tmp_path / out, teacher=teacher, device="cpu", progress=progress)

    run("whole")
    with pytest.raises(KeyboardInterrupt):
        run("stopped", lambda done, _: signal.raise_signal(signal.SIGINT) if done == 4 else None)
    run("stopped")
    whole, stopped = (torch.load(tmp_path / out / "state.pt", weights_only=True) for out in ("whole", "stopped"))
    for part in ("student", "objective"):
        assert whole[part].keys() == stopped[part].keys()
        assert all(torch.equal(whole[part][key], stopped[part][key]) for key in whole[part])
    assert any(key.startswith(f"terms.{spec}.") for key in whole["objective"])
    saved = torch.load(tmp_path / "whole" / "last.pt", weights_only=True)
    assert not [key for key in saved["state_dict"] if key not in models.build("resnet8", classes=6).state_dict()]


# Refusals


def refused(spec, student, teacher, message, **settings):
    with torch.device("cpu"):
        nets = [
            models.build(name, classes=6, seed=0).eval() if isinstance(name, str) else name
            for name in (student, teacher)
        ]
    probe = probe_of(*nets, LABELS_OF_SPLIT, classes=6)
    with pytest.raises(KdvizError) as told:
        models_objective(spec, probe, settings)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("spec", ["at", "nst", "vid", "ofd", "reviewkd"])
def test_other_numbers_of_stages_are_one_line(spec):
    message = f"{spec}: the student has 4 stages but the teacher has 3; choose nets with as many stages"
    refused(spec, "vgg8", "resnet8", message)


def test_what_a_method_cannot_do_is_one_line():
    refused("ofd", "ShuffleV1", "wrn_16_1", "ofd: stage 1 is (16, 16) px in the student but (32, 32) in the teacher")
    refused("ofd", "ShuffleV1", "ShuffleV1", "which ShuffleV1 does not name; expected a resnet, wrn, vgg")
    for bad in (-1, 4):
        refused(
            "fitnet", "resnet8", "resnet14", "fitnet.hint must be 0 to 3, the maps that the", **{"fitnet.hint": bad}
        )
    refused("vid", "resnet8", "resnet14", "variance must be a finite number above 0", **{"vid.variance": 0.0})
    refused("crd", "resnet8", "resnet14", "crd: momentum must be from 0 up to", **{"crd.momentum": 1.0})
    refused("crd", "resnet8", "resnet14", "crd: negatives must be a finite", **{"crd.negatives": 0})
    refused("crd", "resnet8", "resnet14", "crd: temperature must be one number", **{"crd.temperature": [1.0, 2.0]})
    with pytest.raises(KdvizError, match="all samples of the training split are of one class"):
        crd_of(torch.zeros(9, dtype=torch.int64))
    with pytest.raises(KdvizError, match=r"3 x 3 px but the teacher's 5 x 5; .* choose another"):
        regressor(torch.zeros(1, 1, 3, 3), torch.zeros(1, 1, 5, 5))
    with pytest.raises(KdvizError, match="at: features_student has 3 samples but features_teacher has 2"):
        losses.at([SMALL], [SMALL[:2]])
    for empty in (losses.at, losses.sp):
        with pytest.raises(KdvizError, match="features_student has no maps"):
            empty([], [SMALL])


@pytest.mark.parametrize("spec", sorted(OWN))
def test_nets_without_features_are_one_line(spec):
    bare = Outputs(torch.zeros(2, 6))
    for probe in (Probe(bare, bare, 6, LABELS_OF_SPLIT), Probe(flat(3), None, 6, LABELS_OF_SPLIT)):
        with pytest.raises(KdvizError, match=f"{spec}: (the student gives no|needs a teacher)"):
            models_objective(spec, probe, {})


def test_features_by_name_serve_every_method():
    student = models.with_features(models.build("resnet8", classes=6, seed=0), ["layer1", "layer2", "layer3"])
    teacher = models.with_features(
        models.build("resnet14", classes=6, seed=0), ["layer1.1.bn2", "layer2.1.bn2", "layer3.1.bn2"]
    )
    probe = probe_of(student.eval(), teacher.eval(), LABELS_OF_SPLIT, classes=6)
    ids = torch.arange(4)
    for spec in FEATURE:
        objective = models_objective(spec, probe, STEP if spec == "crd" else {})
        out = [net(images()[:4].float(), features=True) for net in (student, teacher)]
        objective(*out, Batch(None, LABELS_OF_SPLIT[ids], ids), epoch=10.0)["total"].backward()
    wrong = models.with_features(models.build("resnet14", classes=6, seed=0), ["layer1", "layer2", "layer3"])
    refused("ofd", student, wrong, "layer1 is a Sequential; expected the BatchNorm2d before the ReLU")


def test_a_methods_weights_follow_the_runs_seed():
    student, teacher = small_nets()
    probe = probe_of(student.eval(), teacher.eval(), LABELS_OF_SPLIT, classes=6)
    first, again, other = (
        models_objective("fitnet", replace(probe, seed=seed), {}).state_dict()["terms.fitnet.conv.weight"]
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
