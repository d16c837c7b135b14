"""The papers' entries: a contract over every one, findings against scipy and closed forms, a run end to end."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset
from kdviz.checkpoints import load_checkpoint, save_checkpoint
from kdviz.data import Data
from kdviz.models import build
from kdviz.models.detection import DETECTORS
from kdviz.papers import PAPERS, Inputs, caption, findings, produce, published
from kdviz.papers.cells import misfits, whole_recipe
from kdviz.papers.pld import draws
from kdviz.papers.pld import fig3 as pld_fig3
from kdviz.papers.pld import fig4 as pld_fig4
from kdviz.train.recipe import load_recipe

EVERY = [(paper, entry) for paper in PAPERS.values() for entry in paper.entries.values()]
TABLES = [
    (paper.name, name, table) for paper in PAPERS.values() for name, table in published.tables(paper.name).items()
]
NAMES = [f"{paper.name}-{entry.name}" for paper, entry in EVERY]
SMALL = {"steps": 5, "draws": 3, "samples": None, "hessian_samples": 20}


def unescaped(latex):
    """Characters of a LaTeX text that it would read as commands, once commands and mathematics are taken out."""
    assert latex.count("{") - latex.count("\\{") == latex.count("}") - latex.count("\\}")
    text = re.sub(r"\\[{}$&#%_]", "", latex)
    text = re.sub(r"\$[^$]*\$|\\(text[a-z]+|ldots|caption|label|cite)", "", text)
    return set(text) & set('\\$&#%_^~"<>|')


@pytest.mark.parametrize(("paper", "entry"), EVERY, ids=NAMES)
def test_every_entry_says_what_it_claims_and_what_stays_open(paper, entry):
    assert entry.title
    assert entry.source.startswith("arXiv ")
    assert entry.claims
    assert entry.choices
    for claim in entry.claims:
        assert claim.says
        assert claim.where
        assert claim.reading
    assert set(entry.needs) <= {"teacher", "data"}
    assert entry.split in ("train", "val", "test")


@pytest.mark.parametrize(("paper", "entry"), EVERY, ids=NAMES)
def test_every_caption_is_escaped_and_says_the_choices(paper, entry):
    data = Data(
        "50%_{odd}",
        "test",
        torch.zeros(1, 3, 2, 2, dtype=torch.uint8),
        torch.zeros(1, dtype=torch.int64),
        (0.5,) * 3,
        (0.5,) * 3,
        ("a",),
    )
    inputs = Inputs(students={"k_d & 5%": None}, data=data)
    latex = caption.latex(paper, entry, inputs)
    body = latex.removeprefix("\\caption{").partition("\\cite")[0]
    assert unescaped(body) == set()
    assert "(1)" in latex
    assert "{steps}" not in latex
    assert f"\\label{{fig:{paper.name}-{entry.name}}}" in latex


def test_the_captions_of_shipped_students_say_that_they_are_not_the_papers():
    for paper, entry in EVERY:
        if entry.students:
            text = caption.text(paper, entry, Inputs(students={"kd": None}, shipped=True))
            assert "synthetic" in text
            assert "not the paper's result" in text


def test_citations_are_those_of_the_losses():
    from kdviz.losses.papers import PLD, RKKD

    assert (PAPERS["rkkd"].cite, PAPERS["pld"].cite) == (RKKD.key, PLD.key)


def test_unknown_papers_and_figures_get_a_close_match():
    with pytest.raises(KdvizError, match="did you mean 'rkkd'"):
        PAPERS["rkd"]
    with pytest.raises(KdvizError, match="did you mean 'fig3'"):
        PAPERS["pld"].entries["fig33"]


def test_the_declarations_need_no_torch():
    program = "import sys, kdviz.papers; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_an_entry_without_its_inputs_says_what_to_give():
    with pytest.raises(KdvizError, match="needs data"):
        PAPERS["rkkd"].entries["fig3"].results(Inputs())


# Printed gains of the seed's tables: KD+RKKD minus KD, as the paper itself prints them in brackets.
@pytest.mark.parametrize(
    ("table", "base", "other", "printed"),
    [
        ("tab1", "KD", "KD+RKKD", [2.13, 0.28, 0.80, 3.10, 1.91, 1.30]),
        ("tab1", "CTKD", "CTKD+RKKD", [1.64, 1.14, 0.95, 1.51, 2.19, 1.19]),
        ("tab1", "DKD", "DKD+RKKD", [0.53, 0.29, 0.29, 0.55, 1.01, 0.10]),
        ("tab1", "MLKD", "MLKD+RKKD", [0.09, 0.31, 0.60, 0.62, 0.45, 0.43]),
        ("tab2", "KD", "KD+RKKD", [1.41, 1.16, 0.95, 0.42]),
        ("tab2", "CTKD", "CTKD+RKKD", [2.2, 1.24, 0.93, 0.09]),
        ("tab2", "MLKD", "MLKD+RKKD", [0.17, 0.17, 0.73, 0.46]),
        ("tab3", "KD", "KD+RKKD", [1.04, 1.04]),
        ("tab4", "KD", "KD+RKKD", [2.14, 0.77, 0.30, 0.96]),
        ("tab6", "KD", "KD+form 3", [1.37, 0.31]),
        ("tab10", "KD", "KD+RKKD without", [2.31, 0.53]),
    ],
)
def test_published_numbers_give_the_gains_that_the_paper_prints(table, base, other, printed):
    found = published.tables("rkkd")[table]
    gains = np.array(found.row(other).values) - np.array(found.row(base).values)
    np.testing.assert_allclose(gains, printed, atol=0.006)


def test_tables_that_share_a_setting_print_the_same_numbers():
    rkkd = published.tables("rkkd")
    assert rkkd["tab7"].row("gamma 0.9").values == rkkd["tab8"].row("k 1").values
    assert rkkd["tab7"].row("KD").values[0] == rkkd["tab2"].row("KD").values[0]
    assert rkkd["tab7"].row("gamma 0.9").values[2:] == tuple(rkkd["tab1"].row("KD+RKKD").values[i] for i in (0, 3))


def cells(table):
    """Every row with every column, of a mean over pairs with the column of each pair."""
    return [(row, column) for row in table.rows for whole in table.columns for column in whole.each]


@pytest.mark.parametrize(("paper", "name", "table"), TABLES, ids=[f"{paper}-{name}" for paper, name, _ in TABLES])
def test_every_command_is_one_that_trains(paper, name, table):
    from kdviz.cli.common import pairs
    from kdviz.methods import settings_in_force
    from kdviz.models import MODELS

    for row, column in cells(table):
        words = shlex.split(published.command(row, column) or "")
        if not words:
            assert row.name == "Teacher"
            continue
        options = dict(zip(words[3::2], words[4::2], strict=True))
        given = pairs([words[i + 1] for i, word in enumerate(words) if word == "--set"])
        changes = {key: value for key, value in given.items() if "." not in key}
        changes |= {"epochs": int(options["--epochs"])} if "--epochs" in options else {}
        assert changes == dict(column.changes)
        given = {key: value for key, value in given.items() if "." in key}
        named = {"method": options["--method"], "student": options["--student"]}
        recipe = load_recipe(words[2], **named, **changes, settings=given)
        built = settings_in_force(
            recipe.method, student=recipe.student, teacher=column.teacher, settings=recipe.settings
        )
        wanted = {} if row.method == "ce" else {**column.set, **row.set, **column.by_row.get(row.name, {})}
        assert {key: json.dumps(built[key]) for key in wanted} == {key: json.dumps(wanted[key]) for key in wanted}
        for net in (column.student, column.teacher):
            assert net in {*MODELS, *DETECTORS} or net.startswith("timm:")
        assert options.get("--teacher-model", "").startswith("timm:") == (
            row.method != "ce" and column.teacher.startswith("timm:")
        )


def test_rows_state_eq_7_to_the_letter_and_mlkd_its_own_recipes():
    for name, table in published.tables("rkkd").items():
        for row, column in cells(table):
            line = published.command(row, column) or ""
            assert ("--set rank_kendall.pairs=ordered" in line) == ("+rk" in line), (name, row.name)
    lines = {
        (row, column.name): shlex.split(published.command(published.tables("rkkd")[tab].row(row), column))[2]
        for tab in ("tab1", "tab2")
        for row in ("MLKD", "MLKD+RKKD")
        for column in published.tables("rkkd")[tab].columns
    }
    expected = {  # epochs and lr of each pair, as the rows were trained
        "resnet32x4 > ShuffleV2": (960, 0.01),
        "resnet32x4 > ShuffleV1": (960, 0.01),
        "wrn_40_2 > ShuffleV1": (480, 0.01),
        "ResNet50 > MobileNetV2": (480, 0.01),
        "vgg13 > vgg8": (480, 0.01),
        "resnet32x4 > wrn_16_2": (480, 0.025),
        "resnet32x4 > wrn_40_2": (480, 0.025),
        "resnet32x4 > resnet8x4": (480, 0.025),
        "wrn_40_2 > wrn_40_1": (480, 0.025),
        "resnet110 > resnet20": (480, 0.025),
    }
    assert {pair for _, pair in lines} == expected.keys()
    for (_, pair), name in lines.items():
        recipe = load_recipe(name)
        assert (recipe.epochs, recipe.lr) == expected[pair]
        assert (recipe.batch, recipe.weight_decay, recipe.milestones) == (64, 5e-4, (150, 180, 210))


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """A teacher and two students, untrained, ten classes."""
    folder = tmp_path_factory.mktemp("nets")
    found = {}
    for seed, (name, method) in enumerate([("resnet14", "teacher"), ("resnet8", "kd"), ("resnet8", "kd+rk")]):
        path = save_checkpoint(
            folder / f"{method}.pt",
            model=build(name, classes=10, seed=seed),
            name=name,
            classes=10,
            data=None,
            method=method,
            seed=seed,
            epoch=1,
            recipe={},
            metrics={},
        )
        found[method] = load_checkpoint(path)
    return found


@pytest.fixture(scope="module")
def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (40, 3, 32, 32), generator=generator, dtype=torch.uint8)
    names = tuple("abcdefghij")
    return Data("noise", "train", images, torch.arange(40) % 10, (0.5,) * 3, (0.25,) * 3, names, synthetic=True)


# Figures of accuracy tables are in test_papers_accuracies.py.
FIGURES = [(paper, entry) for paper, entry in EVERY if entry.drawings and not entry.tables]


@pytest.mark.parametrize(("paper", "entry"), FIGURES, ids=[f"{paper.name}-{entry.name}" for paper, entry in FIGURES])
def test_a_figure_from_end_to_end(paper, entry, nets, data, tmp_path):
    inputs = Inputs(
        students={name: nets[name] for name in ("kd", "kd+rk")},
        teacher=nets["teacher"],
        data=data,
        settings=SMALL,
        work=tmp_path,
    )
    written = []
    found = produce(paper, entry, inputs, tmp_path, formats=("png",), written=written.append)
    names = {path.name for path in written}
    assert {"caption.tex", "findings.json", "findings.md"} <= names
    for drawing in entry.drawings:
        assert f"{drawing.stem}.png" in names
    assert {path.name for path in tmp_path.iterdir()} == names
    record = json.loads((tmp_path / "findings.json").read_text())
    assert [one["claim"] for one in record["findings"]] == [claim.says for claim in entry.claims]
    assert {one["agrees"] for one in found} <= {"yes", "no", "not comparable"}
    assert record["findings"][0]["measured"]
    for path in written:
        assert path.stat().st_size > 0
    results = {path.stem: read_dataset(path) for path in written if path.suffix == ".nc"}
    assert set(results) == set(entry.results(inputs))


def test_the_same_inputs_give_the_same_bytes(nets, data, tmp_path):
    paper, whole = PAPERS["rkkd"], PAPERS["rkkd"].entries["fig3"]
    entry = replace(whole, drawings=whole.drawings[1:])
    folders = tmp_path / "a", tmp_path / "b"
    for folder in folders:
        inputs = Inputs(students={"kd": nets["kd"]}, data=data, settings=SMALL)
        produce(paper, entry, inputs, folder, formats=("pdf", "png"))
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first.keys() == second.keys()
    for name in first:
        assert first[name] == second[name], name


def test_fig1_knows_the_mass_of_small_channels(nets, data):
    from scipy.special import softmax

    entry = PAPERS["rkkd"].entries["fig1"]
    inputs = Inputs(students={"kd": nets["kd"]}, teacher=nets["teacher"], data=data)
    results = entry.results(inputs)
    with torch.inference_mode():
        logits = nets["teacher"].model(next(data.batches(40))[0]).logits.double().numpy()
    values = findings(entry, results)[1]["measured"]
    for temperature in (1, 4):
        mass = np.sort(softmax(logits / temperature, axis=1), axis=1)[:, :9].sum(axis=1).mean()
        assert values[f"teacher small channels' mass at T {temperature}"] == pytest.approx(mass, rel=1e-4)
    mass = 1 - mass
    assert values["teacher large over small"] == pytest.approx(9 * mass / (1 - mass), rel=1e-3)


def test_fig2s_toy_case_is_that_of_scipy():
    from scipy.stats import entropy

    from kdviz.analysis.suboptimal import toy
    from kdviz.papers.rkkd import fig2

    measured = fig2._toy({"toy": toy()})
    teacher = [0.40, 0.35, 0.15, 0.10]
    assert measured.values["student 1 KL, nats"] == pytest.approx(entropy(teacher, [0.36, 0.39, 0.15, 0.10]))
    assert measured.values["student 2 KL, nats"] == pytest.approx(entropy(teacher, [0.70, 0.15, 0.10, 0.05]))
    assert round(measured.values["student 1 KL, nats"], 5) == 0.00427
    assert round(measured.values["student 2 KL, nats"], 5) == 0.20284
    assert measured.agrees == "yes"


def test_fig2_counts_what_scipy_counts(nets, data):
    from scipy.special import log_softmax, rel_entr

    entry = PAPERS["rkkd"].entries["fig2"]
    inputs = Inputs(students={name: nets[name] for name in ("kd", "kd+rk")}, teacher=nets["teacher"], data=data)
    found = findings(entry, entry.results(inputs))[1]["measured"]
    images, labels = next(data.batches(40))
    with torch.inference_mode():
        p = {
            name: np.exp(log_softmax(net.model(images).logits.double().numpy() / 4, axis=1))
            for name, net in nets.items()
        }
    kl = {name: rel_entr(p["teacher"], p[name]).sum(axis=1) for name in ("kd", "kd+rk")}
    right = {name: p[name].argmax(axis=1) == labels.numpy() for name in p}
    for name in ("kd", "kd+rk"):
        good, bad = kl[name][right[name]], kl[name][~right[name]]
        expected = f"{(bad[:, None] < good).sum():,} of {len(good) * len(bad):,}"
        assert found[f"{name} pairs"] == expected
    case = (kl["kd"] < kl["kd+rk"]) & ~right["kd"] & right["kd+rk"]
    assert found["kd nearer and wrong, kd+rk right"] == f"{case.sum()} samples"


def test_fig1_counts_the_lower_half_of_known_values():
    from kdviz.papers.rkkd import fig1

    counts = xr.DataArray([[4, 2, 1, 0, 0, 0, 0, 1]], dims=("net", "logit"))
    one = xr.Dataset({"counts_logit": counts}, {"net": ["student"], "logit": ("logit", np.arange(8.0), {"width": 1.0})})
    measured = fig1._low_half({"a": one.assign_attrs(label="mine")})
    assert measured.values == {"mine share in the lower half": 7 / 8}
    assert measured.agrees == "yes"


def bowl(label, width, wells=0):
    """A landscape whose loss is (a^2 + b^2) / width^2, with extra wells cut into its rim."""
    a = np.linspace(-1, 1, 41)
    values = (a[:, None] ** 2 + a**2) / width**2
    for at in range(wells):
        values[4, 4 + 12 * at] -= 1.0 / width**2
    return xr.Dataset(
        {"ce": (("alpha", "beta"), values, {"role": "loss"})},
        {"alpha": a, "beta": a},
        {"kind": "landscape", "label": label},
    )


def sharp(label, largest):
    values = {"eigenvalue": ("index", [largest]), "trace": 20.0, "trace_stderr": 1.0}
    return xr.Dataset(values, attrs={"label": label})


def test_fig3_reads_bowls_as_they_are():
    entry = PAPERS["rkkd"].entries["fig3"]
    flat = {"landscape_kd": bowl("kd", 0.5, wells=2), "landscape_kd+rk": bowl("kd+rk", 1.0)}
    flat |= {"sharpness_kd": sharp("kd", 9.0), "sharpness_kd+rk": sharp("kd+rk", 4.0)}
    flatter, less_sharp, fewer, _ = findings(entry, flat)
    assert (less_sharp["measured"]["kd largest eigenvalue"], less_sharp["agrees"]) == (9.0, "yes")
    # (a^2 + b^2) / w^2 reaches .1 at radius w sqrt(.1)
    assert flatter["measured"]["kd radius"] == pytest.approx(0.5 * 0.1**0.5, rel=0.04)
    assert flatter["measured"]["kd+rk radius"] == pytest.approx(0.1**0.5, rel=0.04)
    assert (flatter["agrees"], fewer["agrees"]) == ("yes", "yes")
    assert (fewer["measured"]["kd minima"], fewer["measured"]["kd+rk minima"]) == (3, 1)
    swapped = {"landscape_kd": bowl("kd", 1.0), "landscape_kd+rk": bowl("kd+rk", 0.5)}
    swapped |= {"sharpness_kd": sharp("kd", 4.0), "sharpness_kd+rk": sharp("kd+rk", 9.0)}
    assert [one["agrees"] for one in findings(entry, swapped)] == ["no", "no", "no", "no"]
    alike = {"landscape_kd": bowl("kd", 1.0), "landscape_kd+rk": bowl("kd+rk", 1.04)}
    alike |= {"sharpness_kd": sharp("kd", 4.2), "sharpness_kd+rk": sharp("kd+rk", 4.0)}
    for one in findings(entry, alike)[:2]:
        assert (one["agrees"], one["note"]) == ("no", "that way round, but by less than a tenth")
    alone = findings(entry, {"landscape_mine": bowl("mine", 1.0), "sharpness_mine": sharp("mine", 1.0)})
    assert {one["agrees"] for one in alone} == {"not comparable"}


def test_slice_curvature_of_a_quadratic():
    a = np.linspace(-5, 5, 11)
    values = np.stack([a[:, None] ** 2 + 2 * a**2, 3 * a[:, None] * a])
    one = xr.Dataset({"value": (("panel", "alpha", "beta"), values)}, {"alpha": a, "beta": a})
    np.testing.assert_allclose(draws.curvature_mean(one), [3.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(draws.curvature_median(one), [4.0, 3.0], atol=1e-12)


def drawn(**values):
    panels = {name: (("draw", "panel"), np.atleast_2d(value).repeat(3, axis=0)) for name, value in values.items()}
    return {"draws": xr.Dataset(panels)}


def test_pld_fig3_tells_flattening_from_its_opposite():
    falling = drawn(curvature_mean=[1.01, 1.0, 0.5, 0.1], curvature_origin=[1.01, 1.0, 0.5, 0.1])
    rising = drawn(curvature_mean=[0.5, 1.0, 2.0, 1.1], curvature_origin=[0.5, 1.0, 2.0, 1.1])
    assert [one["agrees"] for one in findings(pld_fig3.ENTRY, falling)] == ["yes", "yes", "yes"]
    assert [one["agrees"] for one in findings(pld_fig3.ENTRY, rising)] == ["no", "no", "no"]


def test_pld_fig4_tells_convex_from_planar():
    numbers = drawn(
        convex_share=[0.0, 0.5, 1.0],
        range=[1.0, 1.0, 1.0],
        curvature_mean=[0.0, 1.0, 1.0],
        curvature_minimum=[20.0, 1.0, 1.0],
        curvature_median=[1.0, 1.0, 1.0],
        minimum_distance=[0.0, 0.0, 0.9],
    )
    assert [one["agrees"] for one in findings(pld_fig4.ENTRY, numbers)] == ["yes", "yes", "yes"]


def run_of(folder, *, changed=(), sha256="a" * 64, **changes):
    """A finished run of Table 7's first column at gamma .9, `changed` in its recorded recipe."""
    table = published.tables("rkkd")["tab7"]
    whole = whole_recipe(table.row("gamma 0.9"), table.columns[0])
    settings = {key: value for key, value in whole.items() if "." in key}
    recipe = {key: value for key, value in whole.items() if "." not in key} | {"precision": "bf16", "seed": 5}
    for key, value in dict(changed).items():
        (settings if "." in key else recipe)[key] = value
    facts = {
        "name": "resnet8x4",
        "classes": 100,
        "data": "cifar100",
        "method": "kd+rk",
        "seed": 0,
        "epoch": 240,
        "recipe": {**recipe, "settings": settings, "data_sha256": sha256},
        "metrics": {"last": {"epoch": 240, "top1": 0.7511}},
        "teacher": {"path": "t.pt", "sha256": None, "name": "resnet32x4"},
        **changes,
    }
    model = build(facts["name"], classes=facts["classes"], seed=0)
    return load_checkpoint(save_checkpoint(folder / f"{facts['seed']}.pt", model=model, **facts))


def test_a_detectors_run_is_a_cell_from_any_backbones_file_and_from_no_fresh_one(tmp_path):
    """The papers' detectors start from ImageNet's weights, whose file kdviz does not know by its bytes."""
    table = published.tables("rkkd")["tab5"]
    row, column = table.row("KD"), table.columns[0]
    line = "kdviz train rkkd-coco --method roi_kd --student fasterrcnn_mobilenet_v2_fpn --backbone mobilenet_v2.pth"
    assert str(published.command(row, column)).startswith(line)
    whole = whole_recipe(row, column)
    assert (whole["trainable_layers"], whole["frozen_bn"]) == (5, True)  # MobileNetV2's whole backbone
    recipe = {key: value for key, value in whole.items() if "." not in key}
    settings = {key: value for key, value in whole.items() if "." in key}

    def told(**changes):
        kept = {**recipe, "settings": settings, "data_sha256": "a" * 64, **changes}
        kept = {key: value for key, value in kept.items() if value is not None}
        run = run_of(tmp_path, recipe=kept, method="roi_kd", data="coco", classes=80)
        teacher = {"name": "fasterrcnn_resnet50_fpn"}
        return misfits(replace(run, name="fasterrcnn_mobilenet_v2_fpn", teacher=teacher), table, row, column)

    assert told(backbone_sha256="b" * 64) == told(backbone_sha256="c" * 64) == []
    assert told(backbone_sha256="b" * 64, frozen_bn=False) == ["frozen_bn is False, not True"]
    assert told(backbone_sha256="b" * 64, trainable_layers=3) == ["trainable_layers is 3, not 5"]
    assert told(trainable_layers=None, frozen_bn=None) == ["backbone is fresh, not of a file"]


def test_a_users_run_stands_beside_its_row(tmp_path):
    entry, table = PAPERS["rkkd"].entries["tab7"], published.tables("rkkd")["tab7"]
    second = run_of(tmp_path, seed=1, metrics={"last": {"epoch": 240, "top1": 0.7411}})
    other = run_of(tmp_path, seed=2, data="glyphs100")
    elsewhere = run_of(tmp_path, seed=3, sha256="b" * 64)
    runs = (("gamma 0.9", run_of(tmp_path)), ("gamma 0.9", second), ("gamma 2", other), ("gamma 0.9", elsewhere))
    result = entry.results(Inputs(runs=runs))["table"]
    assert float(result["measured"].sel(row="gamma 0.9")[0]) == pytest.approx(74.61)
    assert int(result["runs"].sum()) == 2
    shown = published.plain(table, result)
    assert "74.74 (74.61)" in shown
    assert "data is glyphs100, not cifar100" in shown
    assert "rank_kendall.weight is 0.9, not 2.0" in shown
    assert "data_sha256 is bbbbbbbbbbbb, not aaaaaaaaaaaa as of the table's other runs" in shown


def test_a_mean_over_pairs_is_shown_when_every_pair_has_a_run(tmp_path):
    entry, table = PAPERS["rkkd"].entries["tab6"], published.tables("rkkd")["tab6"]
    row, column, runs = table.row("KD+form 2"), table.columns[0], []
    assert [one.name for one in column.each] == [one.name for one in published.tables("rkkd")["tab2"].columns]
    for seed, (one, top1) in enumerate(zip(column.each, (0.71, 0.72, 0.73, 0.78), strict=True)):
        whole = whole_recipe(row, one)
        settings = {key: value for key, value in whole.items() if "." in key}
        recipe = {key: value for key, value in whole.items() if "." not in key}
        facts = {
            "name": one.student,
            "recipe": {**recipe, "settings": settings, "data_sha256": "a" * 64},
            "metrics": {"last": {"epoch": 240, "top1": top1}},
            "teacher": {"path": "t.pt", "sha256": None, "name": one.teacher},
        }
        runs.append(("KD+form 2", run_of(tmp_path, seed=seed, **facts)))
    shown = entry.results(Inputs(runs=tuple(runs)))["table"]
    assert float(shown["measured"].sel(row="KD+form 2", column="similar structure")) == pytest.approx(73.5)
    assert int(shown["runs"].sum()) == 4
    partial = entry.results(Inputs(runs=tuple(runs[1:])))["table"]
    assert np.isnan(partial["measured"]).all()
    lines = published.commands(table, "runs")
    assert lines[0] == "# KD, similar structure, mean of 4 pairs: published 72.01"
    assert len([line for line in lines if line.startswith("kdviz")]) == 4 * (4 + 6)


def test_the_best_test_epoch_stands_beside_the_last_one_named_so(tmp_path):
    entry, table = PAPERS["rkkd"].entries["tab7"], published.tables("rkkd")["tab7"]
    run = run_of(tmp_path)
    run.path.rename(tmp_path / "last.pt")
    run = load_checkpoint(tmp_path / "last.pt")
    lines = [
        {"event": "epoch", "epoch": number, "test": {"top1": top1}}
        for number, top1 in ((80, 0.70), (160, 0.7623), (240, 0.7511))
    ]
    (tmp_path / "journal.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    result = entry.results(Inputs(runs=(("gamma 0.9", run),)))["table"]
    assert float(result["measured"].sel(row="gamma 0.9")[0]) == pytest.approx(75.11)
    assert float(result["best"].sel(row="gamma 0.9")[0]) == pytest.approx(76.23)
    assert "74.74 (75.11, best epoch 76.23)" in published.plain(table, result)
    moved = run_of(tmp_path, seed=4)  # a file that is not the journal's own run
    assert np.isnan(published.best_score(moved))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"epochs": 1, "lr": 9.0}, ["epochs is 1, not 240", "lr is 9.0, not 0.05"]),
        ({"batch": 128}, ["batch is 128, not 64"]),
        ({"optimizer": "adamw"}, ["optimizer is adamw, not sgd"]),
        ({"milestones": [100.0]}, ["milestones is [100.0], not [150.0, 180.0, 210.0]"]),
        ({"schedule": "cosine"}, ["schedule is cosine, not step"]),
        ({"augment": "none"}, ["augment is none, not crop"]),
        ({"limit": 1000}, ["limit is 1000, not None"]),
        ({"holdout": True}, ["holdout is True, not False"]),
        ({"kd.temperature": 2.0}, ["kd.temperature is 2.0, not 4.0"]),
        ({"kd.temperature": [4.0, 2.0]}, ["kd.temperature is [4.0, 2.0], not 4.0"]),
        ({"rank_kendall.pairs": "unordered"}, ["rank_kendall.pairs is unordered, not ordered"]),
        ({"dist.beta": 2.0}, ["dist.beta is 2.0, not set"]),
        ({}, []),
    ],
)
def test_a_run_is_a_cell_only_if_its_whole_recipe_is(tmp_path, changed, told):
    table = published.tables("rkkd")["tab7"]
    cell = table, table.row("gamma 0.9"), table.columns[0]
    assert misfits(run_of(tmp_path, changed=changed), *cell) == told
    bare = run_of(tmp_path, recipe={}, seed=9)
    assert {"epochs is not recorded", "kd.weight is not recorded", "data_sha256 is not recorded"} <= set(
        misfits(bare, *cell)
    )
    assert misfits(run_of(tmp_path), table, table.row("Teacher"), table.columns[0]) == [
        "kdviz has no recipe for this cell"
    ]
    assert misfits(run_of(tmp_path, method="kd", seed=7), *cell) == ["method is kd, not kd+rk"]
    taught = run_of(tmp_path, teacher={"path": "t.pt", "sha256": None, "name": "resnet110"}, name="resnet20", seed=8)
    assert misfits(taught, *cell) == ["student is resnet20, not resnet8x4", "teacher is resnet110, not resnet32x4"]


def test_an_unfinished_run_or_an_unknown_row_is_told(tmp_path):
    entry = PAPERS["rkkd"].entries["tab7"]
    with pytest.raises(KdvizError, match="holds no test top-1"):
        entry.results(Inputs(runs=(("gamma 0.9", run_of(tmp_path, metrics={})),)))
    with pytest.raises(KdvizError, match=r"did you mean 'gamma 0\.9'"):
        entry.results(Inputs(runs=(("gama 0.9", run_of(tmp_path)),)))


def kdviz(*words, cwd):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "kdviz", *words], cwd=cwd, capture_output=True, text=True, env=environment, check=False
    )


def test_a_table_on_the_command_line_is_published_not_measured(tmp_path):
    done = kdviz("paper", "rkkd", "tab7", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "published numbers, not measured" in done.stdout
    assert "kdviz train rkkd-cifar100" in done.stdout
    commands = (tmp_path / "reports/rkkd/tab7/commands.sh").read_text()
    assert "--method kd+rk --student resnet8x4 --teacher resnet32x4.pt --set rank_kendall.pairs=ordered" in commands
    assert "--set rank_kendall.weight=4.0" in commands
    folders = re.findall(r"^kdviz .* -o (\S+)$", commands, flags=re.MULTILINE)
    assert len(folders) == len(set(folders)) == 8 * 4


def test_missing_shipped_students_are_one_clear_line(tmp_path):
    done = kdviz("paper", "rkkd", "fig3", cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "--student" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pld", "fig3", "--student", "kd=a.pt", "--samples", "9"], "--student, --samples; leave it out"),
        (["rkkd", "fig1", "--run", "KD=a.pt"], "no use for --run"),
        (["rkkd", "tab1", "--steps", "5"], "no use for --steps"),
        (["rkkd", "fig1", "--samples", "0"], "--samples must be above 0, got 0"),
    ],
)
def test_options_that_would_do_nothing_are_refused(words, message):
    from typer.testing import CliRunner

    from kdviz.cli.app import app

    done = CliRunner().invoke(app, ["paper", *words])
    assert isinstance(done.exception, KdvizError)
    assert message in str(done.exception)


def test_a_teacher_with_the_students_file_name_is_found(tmp_path):
    from kdviz.base.files import sha256
    from kdviz.cli.common import open_teacher

    taught = run_of(tmp_path / "teacher", name="resnet14", classes=10, method="ce", teacher=None)
    named = {"path": str(taught.path), "sha256": sha256(taught.path), "name": "resnet14"}
    student = run_of(tmp_path / "student", name="resnet8", classes=10, teacher=named)
    assert student.path.name == taught.path.name
    assert open_teacher(student, None).name == "resnet14"
    run_of(tmp_path / "teacher", name="resnet20", classes=10, method="ce", teacher=None)  # written over
    with pytest.raises(KdvizError, match="sha256 differs"):
        open_teacher(student, None)


@pytest.mark.parametrize("wrong", [{"venue": "icmll"}, {"formats": ("gif",)}])
def test_what_cannot_be_drawn_is_refused_before_it_is_computed(tmp_path, wrong):
    paper, whole = PAPERS["pld"], PAPERS["pld"].entries["fig3"]
    entry = replace(whole, compute=lambda *_: pytest.fail("computed"))
    with pytest.raises(KdvizError, match="must be one of"):
        produce(paper, entry, Inputs(), tmp_path, **wrong)


def test_findings_for_a_terminal_stand_one_number_a_line():
    from kdviz.papers.produce import findings_text

    claim = {"claim": "c", "where": "w", "reading": "r", "agrees": "yes", "measured_agrees": "", "note": ""}
    shown = findings_text([{**claim, "measured": {"a": 0.5, "longer": "2 of 3"}}]).splitlines()
    assert shown[2:4] == ["measured  a       0.5", "          longer  2 of 3"]
    assert "measured  nothing" in findings_text([{**claim, "measured": {}}])


def test_names_that_would_leave_the_folder_are_refused():
    from kdviz.cli.paper import _pair

    assert _pair("kd+rk=a=b.pt") == ("kd+rk", Path("a=b.pt"))
    for text in ("../kd=a.pt", "kd", "=a.pt", ".kd=a.pt", "a/b=c.pt"):
        with pytest.raises(KdvizError):
            _pair(text)
