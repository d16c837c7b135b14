"""Feature and relation methods against the numbers of their original code, closed forms and common contracts."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from golden_nets import LABELS, fill_term, images, net

from kdviz import losses
from kdviz.methods import METHODS, Batch, Probe
from kdviz.methods.crd import CRD
from kdviz.methods.fitnet import FitNet
from kdviz.methods.ofd import OFD
from kdviz.methods.reviewkd import ReviewKD
from kdviz.methods.vid import VID

GOLDEN = json.loads((Path(__file__).parent / "data" / "golden_feature_methods.json").read_text())
PAIRS = ("resnet20>resnet8", "wrn_16_2>ShuffleV1")
MODULES = {"FitNet": FitNet, "VID": VID, "OFD": OFD, "ReviewKD": ReviewKD, "CRD": CRD}
OWN = {"fitnet", "vid", "ofd", "reviewkd", "crd"}
FEATURE = [name for name, method in METHODS.items() if method.needs & {"features", "preactivations", "pooled"}]
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
        return lambda out: losses.evaluate(
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
