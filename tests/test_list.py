"""What the lists and the doctor say, as a user sees it in a pipe."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from kdviz.base.check import KdvizError
from kdviz.cli.app import app
from kdviz.cli.list import LISTS


def said(*arguments):
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False).stdout


@pytest.mark.parametrize("what", LISTS)
def test_a_list_has_a_line_per_entry(what):
    lines = said("list", what, "--full").splitlines()
    rows = LISTS[what]()
    assert len(lines) == len(rows) > 3
    for line, row in zip(lines, rows, strict=True):
        assert len(row) == len(rows[0])
        assert line.startswith(row[0])
        assert row[-1] in line


def test_parameter_counts_are_the_published_ones():
    counts = dict(LISTS["models"]())
    assert counts["resnet8"] == "83,892"
    assert counts["wrn_40_2"] == "2,255,156"
    assert counts["ShuffleV2"] == "1,355,528"


def test_lists_hold_what_the_registries_do():
    from kdviz.losses import LOSSES
    from kdviz.plots import FIGURES

    assert {row[0] for row in LISTS["losses"]()[1:]} == set(LOSSES)
    assert set(FIGURES) <= {row[0] for row in LISTS["figures"]()[1:]}
    methods = {row[0]: dict(zip(LISTS["methods"]()[0], row, strict=True)) for row in LISTS["methods"]()[1:]}
    assert "temperature=4.0" in methods["kd"]["settings"]
    assert (methods["kd"]["kind"], methods["kd"]["needs"]) == ("logit", "logits")
    assert (methods["mlkd"]["kind"], methods["mlkd"]["needs"]) == ("logit", "strong view")
    assert (methods["rkd"]["kind"], methods["rkd"]["needs"]) == ("relation", "pooled features")
    assert "2409.17823" in methods["rk"]["from"]


def test_citations_come_once():
    entries = said("list", "methods", "--bibtex")
    keys = [line for line in entries.splitlines() if line.startswith("@")]
    assert len(keys) == len(set(keys)) > 5
    assert "2409.17823" in entries
    with pytest.raises(KdvizError, match="data have no citations"):
        said("list", "data", "--bibtex")


def test_an_unknown_list_gets_a_close_match():
    done = subprocess.run([sys.executable, "-m", "kdviz", "list", "modles"], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("kdviz: unknown list 'modles'; did you mean 'models'?")


def test_the_doctor_names_what_is_there_and_what_to_do(monkeypatch, tmp_path):
    from importlib import metadata

    from kdviz.cli import doctor

    monkeypatch.setattr(doctor, "OPTIONAL", {"json": ("x", "y"), "no_such_module": ("dreams", "pip install dreams")})
    monkeypatch.setenv("KDVIZ_DATA", str(tmp_path))
    report = said("doctor")
    assert f"torch          {metadata.version('torch')}" in report
    assert f"json           {json.__version__}" in report
    assert "not installed: dreams" in report
    assert "-> pip install dreams" in report
    assert "cifar100       not found" in report
    assert "glyphs100      drawn on first use" in report
    assert f"{report.count('-> ')} hints" in report


def test_a_module_that_does_not_import_is_told(monkeypatch, tmp_path):
    from kdviz.cli import doctor

    (tmp_path / "halfbuilt.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(doctor.OPTIONAL, "halfbuilt", ("x", "pip install halfbuilt"))
    _, state, advice = doctor._optional("halfbuilt")
    assert state == "installed, but does not import (operator torchvision::nms does not exist)"
    assert advice == "reinstall it: pip install halfbuilt"
