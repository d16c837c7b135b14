"""The numbers behind figures, read back by other readers than ours."""

import csv
import io
import re
import sys

import numpy as np
import pytest
import xarray as xr

from kdviz.base.check import KdvizError
from kdviz.base.files import write_dataset
from kdviz.cli.app import main
from kdviz.plots.data import groups, table, text_of

RESULT = xr.Dataset(
    {
        "ce": (("alpha", "beta"), [[0.1, np.nan], [1e-30, 3.0], [4.0, 5.0]]),
        "counts": (("net", "logit"), [[1, 2], [3, 4]]),
        "mean": (("measure",), [0.5, -0.25]),
        "trace": ((), 7.5),
        "right": (("logit",), [True, False]),
        "image": (("case", "colour", "row", "column"), np.zeros((1, 3, 2, 2), np.uint8)),
    },
    {"alpha": [-1.0, 0.0, 1.0], "beta": [0.0, 0.5], "net": ["teacher", "a b"], "logit": [-2.0, 2.0]}
    | {"measure": ["tau_b", "50% {x}"]},
    {"kind": "other"},
)


def rows(name):
    return list(csv.reader(io.StringIO(text_of(table(RESULT, name), "csv"))))


def test_variables_over_the_same_axes_share_a_table():
    assert groups(RESULT) == {
        "alpha_beta": ["ce"],
        "logit": ["counts", "right"],
        "measure": ["mean"],
        "values": ["trace"],
    }


def test_csv_holds_every_number_in_full():
    head, *lines = rows("alpha_beta")
    assert head == ["alpha", "beta", "ce"]
    values = {(float(a), float(b)): float(c) for a, b, c in lines}
    assert len(values) == 6
    for (a, b), value in values.items():
        np.testing.assert_equal(value, float(RESULT["ce"].sel(alpha=a, beta=b)))
    assert rows("values") == [["trace"], ["7.5"]]


def test_names_become_columns_or_rows():
    assert rows("logit") == [
        ["logit", "counts_teacher", "counts_a b", "right"],
        ["-2.0", "1", "3", "1"],
        ["2.0", "2", "4", "0"],
    ]
    assert rows("measure") == [["measure", "mean"], ["tau_b", "0.5"], ["50% {x}", "-0.25"]]


def test_tex_is_a_table_that_pgfplots_reads():
    """Columns apart by spaces, braces around texts, a blank line after each scan line (pgfplots' manual, `table`)."""
    lines = text_of(table(RESULT, "alpha_beta"), "tex").splitlines()
    assert lines[0] == "alpha beta ce"
    blocks = "\n".join(lines[1:]).split("\n\n")
    assert [[one.split() for one in block.splitlines()] for block in blocks] == [
        [["-1.0", "0.0", "0.1"], ["-1.0", "0.5", "nan"]],
        [["0.0", "0.0", "1e-30"], ["0.0", "0.5", "3.0"]],
        [["1.0", "0.0", "4.0"], ["1.0", "0.5", "5.0"]],
    ]
    head, *others = text_of(table(RESULT, "measure"), "tex").splitlines()
    assert (head, others) == ("measure mean", ["tau_b 0.5", r"{50\% \{x\}} -0.25"])
    wide = text_of(table(RESULT, "logit"), "tex").splitlines()
    assert [len(re.findall(r"\{[^}]*\}|\S+", line)) for line in wide] == [4, 4, 4]


def test_the_command_writes_tables_beside_the_result(tmp_path, monkeypatch, capsys):
    path = write_dataset(RESULT, tmp_path / "some.nc")
    monkeypatch.setattr(sys, "argv", ["kdviz", "plot", str(path), "--data", "csv,tex"])
    main_and_exit()
    written = {one.name for one in tmp_path.iterdir()} - {"some.nc"}
    assert written == {f"some_{name}.{form}" for name in groups(RESULT) for form in ("csv", "tex")}
    assert {line.rpartition("/")[2] for line in capsys.readouterr().out.splitlines()} == written


@pytest.mark.parametrize(("words", "says"), [(["--data", "xls"], "must be one of csv, tex"), (["--data"], "")])
def test_another_format_is_one_line(tmp_path, monkeypatch, capsys, words, says):
    path = write_dataset(RESULT, tmp_path / "some.nc")
    monkeypatch.setattr(sys, "argv", ["kdviz", "plot", str(path), *words])
    assert main_and_exit() != 0
    assert says in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["some.nc"]


def main_and_exit():
    try:
        main()
    except SystemExit as ending:
        return ending.code or 0
    return 0


def test_two_results_of_one_name_do_not_replace_each_other(tmp_path, monkeypatch, capsys):
    paths = [str(write_dataset(RESULT, tmp_path / name / "some.nc")) for name in ("a", "b")]
    monkeypatch.setattr(sys, "argv", ["kdviz", "plot", *paths, "--data", "csv", "-o", str(tmp_path / "out")])
    assert main_and_exit() == 1
    assert "same name" in capsys.readouterr().err


def test_images_alone_are_no_table():
    with pytest.raises(KdvizError, match="images alone"):
        groups(RESULT[["image"]])
