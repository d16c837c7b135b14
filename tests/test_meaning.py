"""What variables mean is in the data: attributes of every kind of result, and figures that read them."""

import json

import numpy as np
import pytest
import xarray as xr

from kdviz import plots
from kdviz.analysis import surfaces
from kdviz.analysis.attributes import ROLES, labelled, loss_meaning, meaning
from kdviz.analysis.histogram import histogram
from kdviz.analysis.ranks import tau
from kdviz.analysis.suboptimal import descent, mine_samples, mine_students, ternary, toy
from kdviz.base.check import KdvizError
from kdviz.losses import ALIASES, LOSSES
from kdviz.methods import METHODS
from kdviz.methods.titles import method_title
from kdviz.plots.style import label_of, title_of, titles_of, unit_of


def arrays(noise=1.0, n=40, k=8):
    generator = np.random.default_rng(0)
    teacher = 3 * generator.standard_normal((n, k))
    student = teacher + noise * generator.standard_normal((n, k))
    return student, teacher, generator.integers(0, k, n)


@pytest.fixture(scope="module")
def results():
    first, second = arrays(1.0), arrays(3.0)
    return {
        "histogram": histogram(first, label="kd", rank_samples=10),
        "tau": tau(first, label="kd+rk", steepness=(1,)),
        "suboptimal": toy(),
        "ternary": ternary(steps=10, fine=12),
        "descent": descent(steps=10, keep=5),
        "cases": mine_samples(first, label="list_mle", top=2),
        "duels": mine_students([first, second], labels=["kd", "mine"], top=2),
        "surface": surfaces.surface(["dist", "kd"], classes=5, steps=5),
    }


def test_every_number_says_what_it_is(results):
    named = {"target", "right", "agree", "correct", "group_count", "class_name", "teacher", "direction", "winner"}
    for kind, one in results.items():
        for name, values in one.data_vars.items():
            if name in named or str(name).startswith("case_") or values.dtype == object or name == "image":
                continue
            assert values.attrs.get("long_name"), (kind, name)
            assert values.attrs.get("role", "loss") in ROLES, (kind, name)
            mixed = "loss" in str(values.attrs["long_name"]) or "curvature" in str(values.attrs["long_name"])
            assert "units" in values.attrs or mixed, (kind, name)


def test_attributes_survive_a_file(results, tmp_path):
    from kdviz.base.files import read_dataset, write_dataset

    for kind, one in results.items():
        write_dataset(one, tmp_path / f"{kind}.nc")
        xr.testing.assert_identical(read_dataset(tmp_path / f"{kind}.nc").drop_attrs(), one.drop_attrs())
        for name, values in read_dataset(tmp_path / f"{kind}.nc").variables.items():
            kept = {
                key: value for key, value in values.attrs.items() if key in ("units", "long_name", "role", "titles")
            }
            assert kept == {key: value for key, value in one[name].attrs.items() if key in kept}, (kind, name)


def test_units_are_those_that_losses_declare(results):
    assert results["surface"]["unit"].values.tolist() == ["1", "nats"]
    assert {name: unit_of(results["cases"]["criterion"], name) for name in ("kl", "rank_kendall", "pld")} == {
        "kl": "nats",
        "rank_kendall": "1",
        "pld": "nats",
    }
    for name, loss in LOSSES.items():
        assert loss_meaning(name) == {"units": loss.unit, "long_name": loss.long_name, "role": "loss"}
        assert loss.unit in ("nats", "1")
    with pytest.raises(KdvizError, match="role must be one of"):
        meaning("1", "tau", "metrik")


def test_titles_come_from_the_registries(results):
    assert results["histogram"].attrs["title"] == "KD"
    assert results["tau"].attrs["title"] == "KD+RK"
    assert results["cases"].attrs["title"] == "ListMLE"
    assert titles_of(results["duels"]["this"]) == {"kd": "KD", "mine": "mine"}
    assert titles_of(results["surface"]["loss"]) == {"dist": "DIST", "kd": "KD"}
    assert list(titles_of(results["ternary"]["criterion"]).values()) == ["KL", "ranking", "KL+ranking", "PLD"]
    assert titles_of(results["tau"]["measure"])["tau_b"] == r"$\tau_b$"
    assert LOSSES["ce"].title == "CE"
    assert all(method_title(name) for name in METHODS)
    assert method_title("a net of mine") is None


def test_another_label_takes_its_title_along():
    assert labelled({"label": "kd", "title": "KD"}, "mine") == {"label": "mine"}
    assert labelled({"label": "mine"}, "kd") == {"label": "kd", "title": "KD"}
    again = histogram(histogram_source("kd"), label="my_net of $5", rank_samples=5)
    assert "title" not in again.attrs
    assert title_of(again) == r"my net of \$5"
    assert (label_of(xr.Dataset()), label_of(xr.Dataset(), 2)) == ("student", "student 3")


def histogram_source(label):
    student, teacher, target = arrays()
    variables = {"logits_student": (("sample", "channel"), student), "logits_teacher": (("sample", "channel"), teacher)}
    attrs = {"kind": "logits", "label": label, "title": "KD"}
    return xr.Dataset(variables | {"target": ("sample", target)}, {"sample": np.arange(len(student))}, attrs)


def test_results_without_attributes_draw_by_their_names(results):
    """Files of older versions carry neither titles nor units."""
    for kind, one in results.items():
        bare = one.copy()
        bare.attrs = {key: value for key, value in one.attrs.items() if key != "title"}
        for variable in bare.variables.values():
            variable.attrs = {key: value for key, value in variable.attrs.items() if key == "width"}
        for name in plots.FIGURES[kind]:
            plots.draw(bare, name)
    assert titles_of(bare["loss"]) == {"dist": "DIST", "kd": "KD"}


def test_a_keyword_that_a_figure_does_not_know_is_refused(results):
    with pytest.raises(KdvizError, match="unknown option of the figure surface contour 'scal'; did you mean 'scale'"):
        plots.draw(results["surface"], "contour", scal="shared")
    with pytest.raises(KdvizError, match="unknown option of the figure tau distribution 'cases'"):
        plots.draw(results["tau"], "distribution", cases=3)
    plots.draw(results["surface"], "contour", scale="shared")
    plots.draw(results["cases"], "gallery", cases=1)


def test_no_name_has_two_meanings():
    """KL without the factor is a criterion of the suboptimal cases; kd is T^2 KL."""
    assert "kl" not in ALIASES
    assert "kl" not in LOSSES


def test_synthetic_data_are_called_so():
    import torch

    from kdviz.analysis.logits import collect_logits
    from kdviz.data import load_data

    data = load_data("glyphs100").take(torch.arange(4))
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 32 * 32, 100))
    found = collect_logits(net, data, teacher=net)
    assert found.attrs["synthetic"] == 1
    assert histogram(found, rank_samples=0).attrs["synthetic"] == 1
    assert mine_samples(found, top=1).attrs["synthetic"] == 1
    assert json.loads(found.attrs["versions"])
