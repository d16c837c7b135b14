"""Methods against the published weights, against losses called directly, and for every entry the same contracts."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from kdviz import losses
from kdviz.base.check import KdvizError
from kdviz.cli.common import pairs
from kdviz.methods import METHODS, Batch, Probe, build, canonical
from kdviz.models import Outputs

generator = torch.Generator().manual_seed(0)
S, T, S2, T2 = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(4))
Y = torch.tensor([0, 1, 2, 3, 4, 0])
IMAGE = [name for name, method in METHODS.items() if "boxes" not in method.needs]  # detectors': test_detection.py
OTHERS = [name for name in IMAGE if name != "rk"]

PUBLISHED = {  # the weights of each paper, as far as they differ from 1
    "ce": {"ce.weight": 1},
    "kd": {"ce.weight": 0.1, "kd.weight": 0.9, "kd.temperature": 4},
    "ctkd": {
        "ce.weight": 0.1,
        "ctkd.weight": 0.9,
        "ctkd.start": 1,
        "ctkd.floor": 1,
        "ctkd.span": 20,
        "ctkd.reversal_epochs": 10,
    },
    "dkd": {"ce.weight": 1, "dkd.weight": 1, "dkd.warmup": 20, "dkd.alpha": 1, "dkd.beta": 8, "dkd.temperature": 4},
    "mlkd": {
        "ce.weight": 0.1,
        "mlkd.weight": 0.9,
        "mlkd.form": "code",
        "mlkd.temperatures": (2, 3, 4, 5, 6),
        "mlkd.strong_temperatures": (3, 4, 5),
        "mlkd.kd": 1,
        "mlkd.class_gram": 1,
        "mlkd.batch_gram": 1,
    },
    "crld": {
        "ce.weight": 1,
        "crld.weight": 1,
        "crld.within": 2,
        "crld.across": 0.5,
        "crld.temperature": 4,
        "crld.plain_threshold": 0.9,
        "crld.strong_threshold": 0.2,
    },
    "ttm": {"ce.weight": 1, "ttm.weight": 1, "ttm.power": 0.1},
    "wttm": {"ce.weight": 1, "wttm.weight": 1, "wttm.power": 0.2},
    "mrkd": {"ce.weight": 1, "mrkd.weight": 1, "mrkd.similarity": 16, "mrkd.ranking": 32, "mrkd.steepness": 0.5},
    "diff_kendall": {"ce.weight": 1, "diff_kendall.weight": 0.9, "diff_kendall.steepness": 1},
    "nkd": {"ce.weight": 1, "nkd.weight": 1, "nkd.gamma": 1.5, "nkd.temperature": 1},
    "rld": {
        "ce.weight": 1,
        "rld.weight": 1,
        "rld.warmup": 20,
        "rld.alpha": 1,
        "rld.beta": 8,
        "rld.temperature": 4,
        "rld.confidence_temperature": 1,
    },
    "lskd": {"ce.weight": 0.1, "lskd.weight": 9, "lskd.temperature": 2},
    "normkd": {"ce.weight": 0.1, "normkd.weight": 0.9, "normkd.scale": 2},
    "dist": {"ce.weight": 1, "dist.weight": 1, "dist.beta": 2, "dist.gamma": 2, "dist.temperature": 4},
    "pld": {"pld.weight": 1, "pld.temperature": 1},
    "list_mle": {"list_mle.weight": 1},
    "p_list_mle": {"p_list_mle.weight": 1, "p_list_mle.normalize": True},
    "rkd": {"ce.weight": 1, "rkd.weight": 1, "rkd.distance": 25, "rkd.angle": 50},
    "at": {"ce.weight": 1, "at.weight": 1000},
    "nst": {"ce.weight": 1, "nst.weight": 50},
    "sp": {"ce.weight": 1, "sp.weight": 3000},
    "pkt": {"ce.weight": 1, "pkt.weight": 30000},
    "fitnet": {"ce.weight": 1, "fitnet.weight": 100, "fitnet.hint": 2},
    "vid": {"ce.weight": 1, "vid.weight": 1, "vid.variance": 5},
    "ofd": {"ce.weight": 1, "ofd.weight": 1e-3},
    "reviewkd": {"ce.weight": 1, "reviewkd.weight": 5, "reviewkd.warmup": 20},
    "crd": {
        "ce.weight": 1,
        "crd.weight": 0.8,
        "crd.dim": 128,
        "crd.negatives": 16384,
        "crd.temperature": 0.07,
        "crd.momentum": 0.5,
    },
    "rk": {
        "rank_kendall.weight": 0.9,
        "rank_kendall.form": 1,
        "rank_kendall.steepness": 1,
        "rank_kendall.normalize": "zscore",
        "rank_kendall.pairs": "ordered",
        "rank_kendall.channels": None,
    },
}


PATTERN = torch.sin(torch.arange(1.0, 81.0, dtype=torch.float64)).view(5, 4, 4)


def outputs(logits, strong=None):
    """Outputs whose pooled features are the logits, and whose maps are a pattern for each logit, times it."""
    maps = (logits[:, :, None, None] * PATTERN[: logits.shape[1]].to(logits),) * 4
    return Outputs(logits, maps, logits, maps, None if strong is None else Outputs(strong))


class NamesItsNorms:
    def __init__(self, width):
        self.width = width

    def bn_before_relu(self):
        return [torch.nn.BatchNorm2d(self.width) for _ in range(3)]


def made(spec, *, classes=5, **rest):
    """The objective on nets with features, as training builds it."""
    seen = outputs(torch.linspace(0, 1, 3 * classes).view(3, classes))
    labels = torch.arange(12) % classes
    probe = Probe(seen._replace(strong=seen), seen._replace(strong=seen), classes, labels, 0, NamesItsNorms(classes))
    return build(spec, classes=classes, probe=probe, **rest)


def batch(target, ids=None):
    return Batch(
        images=target, labels=target, ids=torch.arange(len(target), device=target.device) if ids is None else ids
    )


def terms(spec, student=S, teacher=T, target=Y, *, epoch=100.0, strong=(S2, T2), objective=None, **settings):
    """The objective's terms; `settings` with two underscores for the dot."""
    named = {key.replace("__", "."): value for key, value in settings.items()}
    objective = objective or made(spec, classes=student.shape[1], settings=named)
    objective = objective.double() if student.dtype is torch.float64 else objective
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return objective(outputs(student, strong[0]), outputs(teacher, strong[1]), batch(target), epoch=epoch)


def near(value, expected):
    found, wanted = (torch.as_tensor(each).detach().double() for each in (value, expected))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", IMAGE)
def test_defaults_are_the_published_ones(name):
    defaults = METHODS[name].defaults
    unused = {key for key, value in defaults.items() if (key.endswith(".warmup") and not value) or value == "none"}
    assert {key: value for key, value in defaults.items() if key not in unused} == PUBLISHED[name]
    assert made(name).settings.items() >= defaults.items()


@pytest.mark.parametrize(
    ("teacher", "student", "beta"),
    [
        ("vgg13", "vgg8", 6),
        ("wrn_40_2", "wrn_16_2", 6),
        ("wrn_40_2", "wrn_40_1", 6),
        ("resnet56", "resnet20", 2),
        ("resnet110", "resnet32", 2),
        ("resnet110", "resnet20", 2),
        ("vgg13", "MobileNetV2", 6),
        ("ResNet50", "MobileNetV2", 8),
        ("resnet32x4", "resnet8x4", 8),
        ("wrn_40_2", "ShuffleV1", 8),
        (None, None, 8),
    ],
)
def test_dkds_beta_follows_the_pair_and_yields_to_the_user(teacher, student, beta):
    names = {"teacher": teacher, "student": student}
    assert build("dkd+rk", classes=5, **names).settings["dkd.beta"] == beta
    assert build("dkd", classes=5, settings={"dkd.beta": 3}, **names).settings["dkd.beta"] == 3


@pytest.mark.parametrize(("epoch", "share"), [(0, 0), (5, 0.25), (12.5, 0.625), (20, 1), (200, 1)])
def test_warmups_rise_within_the_epoch(epoch, share):
    found = terms("dkd", epoch=epoch)
    near(found["dkd"], share * losses.dkd(S, T, Y))
    near(found["total"], losses.ce(S, Y) + share * losses.dkd(S, T, Y))
    near(terms("kd", epoch=epoch, kd__warmup=20)["kd"], 0.9 * share * losses.kd(S, T))


def test_mlkds_text_is_five_temperatures_on_two_views():
    distilled = sum(
        loss(*view, temperature=temperature)
        for loss in (losses.kd, losses.class_gram, losses.batch_gram)
        for view in ((S, T), (S2, T2))
        for temperature in (2.0, 3.0, 4.0, 5.0, 6.0)
    )
    found = terms("mlkd", mlkd__form="paper")
    near(found["total"], 0.1 * (losses.ce(S, Y) + losses.ce(S2, Y)) + 0.9 * distilled)


GOLDEN = json.loads((Path(__file__).parent / "data/golden_logit_methods.json").read_text())["mlkd"]


def filled(salt, scale):
    """Logits `[8, 10]` by the formula that the golden numbers were computed with."""
    i = torch.arange(80, dtype=torch.float64)
    return scale * (2 * torch.frac((torch.sin(12.9898 * (i + 1) + salt) + 1) * 43758.5453) - 1).view(8, 10)


@pytest.mark.parametrize(("known", "normalize"), [("n8 C10", "none"), ("n8 C10 standardised", "zscore")])
def test_mlkd_as_it_was_trained_has_that_codes_numbers(known, normalize):
    golden = GOLDEN[known]
    views = [filled(salt, 3).requires_grad_() for salt in (1, 2)]
    taught = [filled(salt, 5) for salt in (3, 4)]
    target = (3 * torch.arange(8) + 1) % 10

    def found(**shares):
        settings = {"mlkd.normalize": normalize} | {f"mlkd.{key}": value for key, value in shares.items()}
        objective = build("mlkd", classes=10, settings=settings)
        student, teacher = (Outputs(plain, strong=Outputs(strong)) for plain, strong in (views, taught))
        return objective(student, teacher, batch(target), epoch=0.0)

    whole = found()
    for name, value in (("ce", golden["loss_ce"]), ("total", golden["total"])):
        assert whole[name].item() == pytest.approx(value, rel=1e-9)
    parts = {"kd": "loss_kd", "class_gram": "loss_cc", "batch_gram": "loss_bc"}
    for part, name in parts.items():
        alone = found(**dict.fromkeys(parts.keys() - {part}, 0.0))["mlkd"]
        assert alone.item() == pytest.approx(golden[name], rel=1e-9)
    whole["total"].backward()
    for view, name in zip(views, ("grad_weak_row0", "grad_strong_row0"), strict=True):
        np.testing.assert_allclose(view.grad[0].numpy(), golden[name], rtol=1e-9)


def test_mlkd_as_it_was_trained_by_its_formula_where_the_two_shares_differ():
    chances = T.softmax(1).numpy()
    sure, mass = chances.max(1), chances.sum(0)
    m, c = (sure <= np.percentile(sure, 50)).mean(), (mass <= np.percentile(mass, 50)).mean()
    assert m != c
    flat = torch.zeros_like(T2)  # of whose samples and classes the masks would keep all, were they the strong view's
    levels = {"temperatures": (2.0, 4.0, 7.0), "strong_temperatures": (4.0,)}

    def over(loss, temperatures, student=S, teacher=T):
        return sum(loss(student, teacher, temperature=temperature) for temperature in temperatures)

    kds = m * over(losses.kd, (2.0, 4.0, 7.0)) + over(losses.kd, (4.0,), S2, flat) + over(losses.kd, (2.0, 7.0))
    grams = c * over(losses.class_gram, (2.0, 4.0, 7.0)) + 3 * m * over(losses.batch_gram, (2.0, 4.0, 7.0))
    given = {f"mlkd__{key}": value for key, value in levels.items()}
    found = terms("mlkd", mlkd__batch_gram=3.0, strong=(S2, flat), **given)
    near(found["mlkd"], 0.9 * (kds + grams))


def test_mlkds_masks_are_numpys_medians():
    from kdviz.methods.mlkd import shares

    for rows in (5, 6):  # an even number of samples has its median between two of them
        chances = T[:rows].softmax(1).numpy()
        sure, mass = chances.max(1), chances.sum(0)
        expected = (sure <= np.percentile(sure, 50)).mean(), (mass <= np.percentile(mass, 50)).mean()
        assert tuple(map(float, shares(T[:rows]))) == expected


def test_crld_masks_what_the_teacher_is_unsure_of():
    from scipy.stats import entropy

    sure, sure_strong = (net.softmax(1).amax(1).numpy() for net in (T, T2))
    at, at_strong = (
        float(np.sort(sure)[3]),
        float(np.median(sure_strong)),
    )  # three samples are kept of each, not the same
    assert sorted((sure >= at).nonzero()[0]) != sorted((sure_strong >= at_strong).nonzero()[0])
    expected = 0.0
    for row in range(6):
        kl = {
            (own, other): 16 * entropy(softened(t[row : row + 1], 4)[0], softened(s[row : row + 1], 4)[0])
            for own, s in (("plain", S), ("strong", S2))
            for other, t in (("plain", T), ("strong", T2))
        }
        if sure[row] >= at:
            expected += 2 * (kl["plain", "plain"] + kl["strong", "strong"]) / 6
        if sure_strong[row] >= at_strong:
            expected += 0.5 * (kl["strong", "plain"] + kl["plain", "strong"]) / 6
    found = terms("crld", crld__plain_threshold=at, crld__strong_threshold=at_strong)
    near(found["crld"], expected)
    near(found["ce"], losses.ce(S, Y) + losses.ce(S2, Y))


def softened(logits, temperature):
    chances = np.exp(logits.numpy() / temperature)
    return chances / chances.sum(1, keepdims=True)


def ctkd_at(theta):
    """CTKD's loss and temperature by its formula, in numpy."""
    temperature = 1 + 20 / (1 + np.exp(-theta))
    p, q = softened(T, temperature), softened(S, temperature)
    return temperature**2 * (p * np.log(p / q)).sum(1).mean(), temperature


@pytest.mark.parametrize(("epoch", "factor"), [(0, 0), (2.5, (np.sqrt(0.5) - 1) / 2), (5, -0.5), (10, -1), (99, -1)])
def test_ctkd_climbs_in_theta_what_the_student_descends(epoch, factor):
    objective = build("ctkd", classes=5).double()
    student = S.clone().requires_grad_()
    found = terms("ctkd", student, epoch=epoch, objective=objective)
    value, temperature = ctkd_at(1.0)
    near(found["ctkd"], 0.9 * value)
    found["ctkd"].backward()
    (theta,) = objective.parameters()
    slope = (ctkd_at(1 + 1e-3)[0] - ctkd_at(1 - 1e-3)[0]) / 2e-3
    assert float(theta.grad) == pytest.approx(0.9 * factor * slope, rel=1e-5)
    descent = 0.9 * temperature * (softened(S, temperature) - softened(T, temperature)) / 6
    np.testing.assert_allclose(student.grad.numpy(), descent, rtol=1e-9)


def test_ctkds_temperature_is_kept_with_the_weights():
    objective, again = build("ctkd+rk", classes=5), build("ctkd+rk", classes=5)
    with torch.no_grad():
        next(objective.parameters()).fill_(-2.0)
    again.load_state_dict(objective.state_dict())
    near(terms("", objective=again)["total"], terms("", objective=objective)["total"])


@pytest.mark.parametrize("name", OTHERS)
def test_the_ranking_loss_plugs_into_every_method(name):
    plain, joined = terms(name), terms(f"{name}+rk")
    distilled = [value for key, value in PUBLISHED[name].items() if key.endswith("weight") and key != "ce.weight"]
    gamma = (min(distilled[0], 1) if distilled else 0.9) if METHODS[name].kind == "logit" else 1
    eq7 = losses.rank_kendall(S, T, pairs="ordered")
    near(joined["rank_kendall"], gamma * eq7)
    near(joined["total"], plain["total"] + gamma * eq7)


def test_a_sum_is_the_sum_of_the_losses_with_cross_entropy_once():
    found = terms("kd+dist+rk")
    assert list(found) == ["ce", "kd", "dist", "rank_kendall", "total"]
    dist = losses.dist(S, T, beta=2.0, gamma=2.0, temperature=4.0)
    ranking = losses.rank_kendall(S, T, pairs="ordered")
    near(found["total"], 0.1 * losses.ce(S, Y) + 0.9 * losses.kd(S, T) + dist + 0.9 * ranking)
    near(terms("dist+kd")["ce"], losses.ce(S, Y))
    assert "ce" not in terms("pld+kd")
    near(terms("pld+kd", ce__weight=0.3)["ce"], 0.3 * losses.ce(S, Y))


def test_settings_of_the_command_line_reach_the_losses():
    given = pairs(["rank_kendall.steepness=2", "rk.channels=top:0.4", "rk.form=3", "kd.temperature=2,4", "kd.weight=1"])
    found = terms("kd+rk", objective=build("kd+rk", classes=5, settings=given))
    near(found["kd"], losses.kd(S, T, temperature=2.0) + losses.kd(S, T, temperature=4.0))
    near(found["rank_kendall"], 1.8 * losses.rank_kendall(S, T, steepness=2.0, form=3, channels=("top", 0.4)))
    near(terms("p_list_mle", p_list_mle__normalize=False)["total"], losses.p_list_mle(S, T, Y, normalize=False))
    near(terms("kd", kd__temperature=(2, 4))["kd"], 0.9 * found["kd"])
    near(terms("kd", ce__weight=0)["total"], terms("kd")["kd"])


def test_aliases():
    assert canonical("KD + Rank_Kendall") == canonical("kd+rkkd") == "kd+rk"
    assert canonical("plackett") == "pld"


@pytest.mark.parametrize(
    ("spec", "settings", "message"),
    [
        ("kdd", {}, "unknown method 'kdd'; did you mean"),
        ("kd+", {}, "unknown method ''"),
        ("kd+rk+kd", {}, "kd stands there twice"),
        ("mlkd", {"mlkd.form": "text"}, "mlkd.form must be one of code, paper, got 'text'"),
        ("mlkd", {"mlkd.temperatures": []}, "mlkd: temperatures must hold one number at least"),
        ("mlkd", {"mlkd.temperatures": [2, 0]}, "mlkd: temperatures must be a finite number above 0, got 0"),
        ("mlkd", {"mlkd.temperatures": [2]}, "mlkd: strong_temperatures [3.0, 4.0, 5.0] are not among"),
        ("crld", {"crld.temperature": [2, 4]}, "crld: temperature must be one number"),
        ("crld", {"crld.plain_threshold": 1.5}, "crld: plain_threshold must be 0..1, got 1.5"),
        ("kd", {"kd.temprature": 2}, "unknown setting 'kd.temprature'; did you mean 'kd.temperature'?"),
        ("kd", {"dist.beta": 2}, "unknown setting 'dist.beta'"),
        ("kd", {"kd.weight": -1}, "kd.weight must not be negative, got -1"),
        ("dkd", {"dkd.warmup": -0.5}, "dkd.warmup must not be negative, got -0.5"),
        ("kd", {"kd.weight": float("nan")}, "kd.weight must be a finite number, got nan"),
        ("kd", {"kd.weight": "high"}, "kd.weight must be a finite number, got 'high'"),
        ("kd", {"kd.weight": 0, "ce.weight": 0}, "kd: every weight is 0"),
        ("kd+rk", {"kd.temperature": 0}, "kd: temperature must be a finite number above 0, got 0"),
        ("kd", {"kd.temperature": [2, -1]}, "kd: temperature must be a finite number above 0, got -1"),
        ("kd", {"kd.temperature": "warm"}, "kd.temperature must be a number, or several as in 2,3,4, got 'warm'"),
        ("kd", {"kd.temperature": "4"}, "kd.temperature must be a number, or several as in 2,3,4, got '4'"),
        ("kd", {"kd.temperature": True}, "kd.temperature must be a number, or several as in 2,3,4, got True"),
        ("ctkd", {"ctkd.span": 0}, "ctkd: span must be a finite number above 0, got 0"),
        ("p_list_mle", {"p_list_mle.normalize": 1}, "p_list_mle.normalize must be true or false, got 1"),
        ("rk", {"rank_kendall.form": 4}, "rank_kendall.form must be one of 1, 2, 3, got 4"),
        ("rk", {"rank_kendall.channels": "top"}, "rank_kendall.channels must be a list of text and a number, or none"),
        ("rk", {"rank_kendall.channels": ["mid", 0.3]}, "rank_kendall: channels must be"),
        ("rk", {"rank_kendall.channels": ["top", 30]}, "rank_kendall: channels must be"),
    ],
)
def test_refusals_name_what_is_wrong(spec, settings, message):
    with pytest.raises(KdvizError) as told:
        build(spec, classes=5, settings=settings)
    assert message in str(told.value)
    assert "\n" not in str(told.value)


def test_what_a_method_needs_is_said_and_asked_for():
    assert build("ce", classes=5).needs == set()
    assert build("kd", classes=5, settings={"kd.weight": 0}).needs == set()
    assert build("rkd+rk", classes=5).needs == {"teacher", "pooled"}
    with pytest.raises(KdvizError, match="needs at least 2 classes, got 1"):
        build("ce", classes=1)
    with pytest.raises(KdvizError, match=r"^ctkd: needs a teacher"):
        build("ctkd", classes=5)(outputs(S), None, batch(Y), epoch=0.0)
    mlkd = build("mlkd", classes=5)
    assert mlkd.needs == {"teacher", "strong"}
    with pytest.raises(KdvizError, match=r"^mlkd: needs the strongly augmented view"):
        mlkd(outputs(S), outputs(T), batch(Y), epoch=0.0)


@pytest.mark.parametrize("name", IMAGE)
def test_a_method_declares_the_needs_of_its_objective(name):
    assert made(name).needs == METHODS[name].needs


@pytest.mark.parametrize("spec", [*IMAGE, *(f"{name}+rk" for name in OTHERS), "kd+dist+rk"])
def test_the_recorded_settings_build_the_same_again(spec):
    given = {"rank_kendall.channels": ["min", 0.5], "rank_kendall.pairs": "ordered"} if "rk" in spec.split("+") else {}
    first = made(spec, teacher="resnet56", student="resnet20", settings=given)
    again = made(first.spec, settings=json.loads(json.dumps(first.settings)))
    assert json.dumps(again.settings) == json.dumps(first.settings)
    near(terms("", objective=again)["total"], terms("", objective=first)["total"])


HARD = {
    "large": (1e4 * S, 1e4 * T, Y, torch.float32),
    "opposed": (1e4 * S, -1e4 * S, Y, torch.float32),
    "ties": (torch.full_like(S, 3.0), torch.full_like(T, 3.0), Y, torch.float32),
    "bfloat16": (S, T, Y, torch.bfloat16),
    "one sample": (S[:1], T[:1], Y[:1], torch.float32),
    "two classes": (S[:, :2], T[:, :2], Y % 2, torch.float32),
    "the least": (S[:1, :2], T[:1, :2], Y[:1], torch.float32),
}


@pytest.mark.parametrize("hard", HARD)
@pytest.mark.parametrize("name", IMAGE)
def test_contracts_of_every_method(name, hard):
    *nets, target, dtype = HARD[hard]
    student, teacher = (net.to(dtype).requires_grad_() for net in nets)
    views = (student.detach().clone().requires_grad_(), teacher.detach().clone().requires_grad_())
    objective = made(name, classes=student.shape[1])
    if name == "reviewkd" and len(target) == 1:
        with pytest.raises(KdvizError, match="reviewkd: needs batches of 2 images or more"):
            terms("", student, teacher, target, objective=objective)
        return
    found = terms("", student, teacher, target, epoch=15.0, strong=views, objective=objective)
    assert all(value.shape == () and torch.isfinite(value) for value in found.values())
    near(found["total"], sum(value for key, value in found.items() if key != "total"))
    found["total"].backward()
    assert torch.isfinite(student.grad).all()
    assert (views[0].grad is not None) == ("strong" in objective.needs)
    assert teacher.grad is None
    assert views[1].grad is None
    assert all(torch.isfinite(weight.grad).all() for weight in objective.parameters())


@pytest.mark.parametrize("name", IMAGE)
def test_no_step_looks_at_values(name):
    """On the meta device there are none to look at: what needs one, and so would wait for a GPU, fails there."""
    far = [net.to("meta").requires_grad_() for net in (S, T, S2, T2)]
    objective = made(name).to("meta")
    terms("", *far[:2], Y.to("meta"), strong=far[2:], objective=objective)["total"].backward()
    assert far[0].grad.shape == S.shape
