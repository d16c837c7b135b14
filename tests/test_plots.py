"""Every figure: drawn whole, labelled, in its venue's width, fit for print, and the same file each time."""

import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pytest
import xarray as xr
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from kdviz import plots
from kdviz.base.check import KdvizError
from kdviz.base.files import write_dataset
from kdviz.cli.app import main
from kdviz.plots.style import VENUES, dash, figure, legend, look, save, title

# "html" draws no Figure; the other kinds are drawn from results of nets by their own tests
DRAWN = [
    (kind, name)
    for kind in ("histogram", "tau", "suboptimal", "ternary", "descent", "cases", "duels", "surface", "training")
    for name in plots.FIGURES[kind]
]
COMPARED = ("ce", "kd", "kd+rk", "dist", "pld")


def logits(noise, n=60, k=12):
    generator = np.random.default_rng(0)
    teacher = 3 * generator.standard_normal((n, k))
    target = np.where(generator.random(n) < 0.7, teacher.argmax(1), generator.integers(0, k, n))
    return teacher + noise * generator.standard_normal((n, k)), teacher, target


def journal(name):
    epochs = np.arange(1, 6)
    values = {"ce": 2 / epochs, "kd": 3 / epochs, "total": 5 / epochs, "val_top1": 1 - 0.8 / epochs}
    roles = {"ce": "loss", "kd": "loss", "total": "metric", "val_top1": "metric"}
    variables = {key: ("epoch", value, {"role": roles[key]}) for key, value in values.items()}
    return xr.Dataset(variables, {"epoch": epochs}, {"kind": "training", "label": name, "method": name})


@pytest.fixture(scope="module")
def results():
    """Results of every kind that logits alone can make, by kind; several students where a figure takes several."""
    from kdviz.analysis import suboptimal, surfaces
    from kdviz.analysis.bootstrap import Bootstrap
    from kdviz.analysis.histogram import histogram
    from kdviz.analysis.ranks import over_epochs, tau

    students = {"kd": logits(1.0), "a long_name of $5$ from a user": logits(2.0), "pld": logits(3.0)}
    few = Bootstrap(resamples=20)
    taus = [tau(one, label=name, bootstrap=few, steepness=(1, 4)) for name, one in students.items()]
    return {
        "histogram": [histogram(one, label=name, rank_samples=20) for name, one in students.items()],
        "tau": [taus[0].merge(over_epochs({1: logits(3.0), 2: logits(1.0)}, bootstrap=few)), *taus[1:]],
        "suboptimal": [suboptimal.toy()],
        "ternary": [suboptimal.ternary()],
        "descent": [suboptimal.descent(steps=40, keep=20)],
        "cases": [suboptimal.mine_samples(one, label=name, top=2) for name, one in students.items()],
        "duels": [suboptimal.mine_students(list(students.values()), labels=list(students))],
        "surface": [surfaces.surface(["dist", "kd", "pld"], steps=41, classes=8)],
        "training": [journal("kd"), journal("pld")],
    }


def panels(fig):
    """The panels of a figure without its colour bars and without those that have no axes (images, triangles)."""
    return [axis for axis in fig.axes if axis.axison and axis.get_label() != "<colorbar>"]


def labelled(axis, way):
    """Whether the panel, or the first of its row for the vertical axis, says what it shows."""
    if getattr(axis, f"get_{way}label")():
        return True
    place = axis.get_position(original=True)
    if way == "x":  # said below the lowest of a column
        column = [one for one in panels(axis.figure) if abs(one.get_position(original=True).x0 - place.x0) < 1e-6]
        return bool(min(column, key=lambda one: one.get_position(original=True).y0).get_xlabel())
    row = [one for one in axis.figure.axes if abs(one.get_position(original=True).y0 - place.y0) < 1e-6]
    first = min(row, key=lambda one: one.get_position().x0)
    return way == "y" and bool(first.get_ylabel())


@pytest.mark.parametrize(("kind", "name"), DRAWN)
def test_every_figure_is_whole_and_labelled(kind, name, results):
    venue = "icml" if name == "distribution" else "iclr"  # the narrowest that the figure comes in
    fig = plots.draw(results[kind], name, venue=venue)
    width, height = fig.get_size_inches()
    assert 0.5 * VENUES[venue][0] < width <= VENUES[venue][1]
    assert height < 9.5  # inches of a page
    for axis in panels(fig):
        assert labelled(axis, "x"), axis.get_title(loc="left")
        assert labelled(axis, "y"), axis.get_title(loc="left")
    fig.draw_without_rendering()
    ink = fig.get_tightbbox()
    assert min(ink.x0, ink.y0, width - ink.x1, height - ink.y1) > -0.02, f"clipped: {ink} of {width} x {height}"
    sizes = {text.get_fontsize() for text in fig.findobj(Text) if text.get_visible() and text.get_text().strip()}
    assert min(sizes) >= 7  # points


def words(fig):
    """The visible texts of a drawn figure, each with its box on the page, in inches."""
    fig.draw_without_rendering()
    found = [one for one in fig.findobj(Text) if one.get_visible() and one.get_text().strip()]
    return [(one.get_text(), one.get_window_extent().transformed(fig.dpi_scale_trans.inverted())) for one in found]


@pytest.mark.parametrize("venue", ["icml", "neurips"])
@pytest.mark.parametrize("name", ["both", "surface", "contour"])
@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_titles_of_surfaces_are_on_the_page_and_nothing_is_written_over_them(venue, name, count, results):
    one = results["surface"][0].isel(panel=np.arange(count) % 3)
    fig = plots.draw(one, name, venue=venue)
    width, height = fig.get_size_inches()
    every = words(fig)
    titles = [(text, box) for text, box in every if text.startswith("(") or (count == 1 and "=" in text)]
    assert len(titles) == count
    for text, box in titles:
        assert 0 <= box.x0 < box.x1 <= width, text
        assert 0 <= box.y0 < box.y1 <= height, text
        assert not [other for other, place in every if other != text and place.overlaps(box)]


@pytest.mark.parametrize("students", [1, 2])
def test_students_without_an_error_have_no_pairs_to_rank(students, results):
    one = results["cases"][0].copy(deep=True)
    one["right"][:] = True
    one["pairs"][:] = 0
    one["candidates"] = 0
    one["share"][:] = np.nan
    right = plots.draw([one] * students, "overlap").axes[1]
    assert [text.get_text() for text in right.texts] == ["all samples are right,\nor all are wrong"]


def test_a_surface_stands_over_its_contour(results):
    """The 3-D box of every column between the left edge of its contour and the right edge of its colour bar."""
    from mpl_toolkits.mplot3d import proj3d

    fig = plots.draw(results["surface"], "both")
    fig.draw_without_rendering()
    boxes = [axis for axis in fig.axes if axis.name == "3d"]
    contours = [axis for axis in panels(fig) if axis.name != "3d"]
    bars = [axis for axis in fig.axes if axis.get_label() == "<colorbar>"]
    assert len(boxes) == len(contours) == len(bars) == 3
    for box, contour, bar in zip(boxes, contours, bars, strict=True):
        corners = np.array([(x, y, z) for x in box.get_xlim() for y in box.get_ylim() for z in box.get_zlim()])
        x, y, _ = proj3d.proj_transform(*corners.T, box.get_proj())
        place = fig.transFigure.inverted().transform(box.transData.transform(np.column_stack([x, y])))
        assert contour.get_position().x0 - 0.03 < place[:, 0].min()
        assert place[:, 0].max() < bar.get_position().x1 + 0.01
        assert place[:, 1].min() > contour.get_position().y1


def test_numbers_of_a_colour_bar_are_lines_of_the_drawing(results):
    from matplotlib.contour import QuadContourSet

    fig = plots.draw(results["surface"], "contour")
    fig.draw_without_rendering()
    for axis, bar in zip(panels(fig), (one for one in fig.axes if one.get_label() == "<colorbar>"), strict=True):
        (levels,) = [one.levels for one in axis.collections if isinstance(one, QuadContourSet) and one.filled]
        ticks = bar.yaxis.get_ticklocs()
        assert len(ticks) >= 3
        assert np.abs(ticks[:, None] - levels).min(1) == pytest.approx(0, abs=1e-9)


def test_a_run_of_one_epoch_has_whole_epochs_on_its_axis(results):
    one = results["training"][0].isel(epoch=[0])
    for name in ("curves", "terms"):
        fig = plots.draw(one, name)
        fig.draw_without_rendering()
        for axis in fig.axes:
            low, high = axis.get_xlim()
            assert [text.get_text() for text in axis.get_xticklabels() if low <= text.get_position()[0] <= high] == [
                "1"
            ]


def test_every_student_has_its_histograms_of_right_and_wrong(results):
    left = plots.draw(results["cases"], "overlap").axes[0]
    names = [text.get_text().partition("\n")[0] for text in left.get_yticklabels()]
    assert names == ["PLD", r"a long name of \$5\$ from a user", "KD"]  # from the lowest up


def test_a_matrix_takes_no_more_room_than_its_students_need():
    from kdviz.analysis import suboptimal

    pair = suboptimal.mine_students([logits(1.0), logits(2.0)], labels=["kd", "pld"])
    width, height = plots.draw(pair, "matrix").get_size_inches()
    assert height < 2.5
    assert width <= VENUES["icml"][1]


def test_ratios_to_the_teacher_by_hand():
    """200 values each, in bins of width 1: 100 and 100 of the teacher, 150 and 50 of the student."""
    counts = np.array([[100, 100], [150, 50]])
    bins = {"logit": ("logit", [0.0, 1.0], {"width": 1.0}), "probability": ("probability", [0.0, 1.0], {"width": 1.0})}
    variables = {f"counts_{name}": (("net", name), counts) for name in bins} | {"small_mass": ("net", [0.1, 0.1])}
    attrs = {"kind": "histogram", "label": "kd", "temperature": 4.0, "small": 0.9}
    one = xr.Dataset(variables, {"net": ["teacher", "student"], **bins}, attrs)
    fig = plots.draw(one, "values")
    for axis in fig.axes[2:]:
        (steps,) = [patch for patch in axis.patches if hasattr(patch, "get_data")]
        np.testing.assert_allclose(steps.get_data().values, [1.5, 0.5])


def test_one_student_is_drawn_too(results):
    for kind, name in DRAWN:
        plots.draw(results[kind][0], name, venue="cvpr")


def test_widths_are_those_of_the_venues():
    """In inches: ICML and CVPR set two columns, the others one."""
    assert VENUES == {
        "icml": (3.25, 6.75),
        "cvpr": (3.25, 6.875),
        "neurips": (5.5, 5.5),
        "iclr": (5.5, 5.5),
        "tmlr": (6.5, 6.5),
    }


@pytest.mark.parametrize(("kind", "name"), [("suboptimal", "bars"), ("surface", "surface")])
def test_equal_results_are_equal_files(kind, name, results, tmp_path):
    found = []
    for turn in ("first", "second"):
        fig = plots.draw(results[kind], name)
        found.append([path.read_bytes() for path in save(fig, tmp_path / turn, ("pdf", "png", "svg"))])
    assert found[0] == found[1]
    pdf, png, svg = found[0]
    assert b"/FontFile2" in pdf  # TrueType, which type 42 embeds
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    assert png.startswith(b"\x89PNG")
    assert b"<dc:date>" not in svg


def test_nothing_global_changes(results, tmp_path):
    import matplotlib.pyplot as plt

    before, figures = dict(mpl.rcParams), plt.get_fignums()
    with plots.style("neurips") as widths:
        assert widths == (5.5, 5.5)
        assert mpl.rcParams["pdf.fonttype"] == 42
    for kind, name in (("histogram", "values"), ("surface", "contour"), ("descent", "paths")):
        save(plots.draw(results[kind], name), tmp_path / kind, ["png"])
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == figures


# Machado, Oliveira and Fernandes (2009), deuteranopia (severity 1), on linear RGB
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]]
)
# linear sRGB to CIE XYZ under D65 (IEC 61966-2-1)
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def lab(name, vision):
    """CIELAB of a method's colour as that vision sees it."""
    rgb = np.array(to_rgb(look(name)["color"]))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = XYZ @ np.clip(vision @ linear, 0, 1) / XYZ.sum(1)
    x, y, z = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_methods_are_told_apart_by_every_eye_and_in_grey():
    """15 of CIE76, six just noticeable differences, for colours; in grey also by dashes and markers."""
    names = ("teacher", *COMPARED, "dkd", "mlkd", "list_mle", "p_list_mle", "rank_kendall")
    for vision in (np.eye(3), DEUTERANOPIA):
        for at, one in enumerate(names):
            for other in names[:at]:
                assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 15, (one, other)
    lightness = sorted(lab(name, np.eye(3))[0] for name in ("teacher", *COMPARED))
    assert np.diff(lightness).min() > 2.3  # one just noticeable difference
    assert lightness[-1] < 75  # on white
    assert len({str(dash(name)) for name in ("teacher", *COMPARED)}) == 6
    assert len({look(name)["marker"] for name in COMPARED}) == 5
    assert look("kd") == look("kd", 5) == look("kl")
    assert len({look("mine", at)["color"] for at in range(8)}) == 8


def test_names_of_users_are_no_mathematics():
    assert (title("teacher"), title("kd+rk"), title("my_net at $5 or $6")) == (
        "teacher",
        "KD+RK",
        r"my net at \$5 or \$6",
    )


def test_a_legend_takes_no_more_columns_than_fit():
    from matplotlib.lines import Line2D

    fig = figure(3.25, 3)
    names = [f"a student with a long name {at}" for at in range(5)]
    legend(fig, [Line2D([], []) for _ in names], names)
    fig.draw_without_rendering()
    where = fig.legends[0].get_window_extent()
    assert 0 <= where.x0 < where.x1 <= fig.bbox.width


def refused(capsys, monkeypatch, *arguments):
    """What `kdviz` says on stderr as it exits with 1."""
    monkeypatch.setattr(sys, "argv", ["kdviz", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    told = capsys.readouterr()
    assert (caught.value.code, told.out) == (1, "")
    assert told.err.startswith("kdviz: ")
    assert told.err.count("\n") == 1
    return told.err


def test_bad_results_end_in_one_line(results, tmp_path, monkeypatch, capsys):
    write_dataset(results["tau"][0], tmp_path / "tau.nc")
    write_dataset(results["ternary"][0], tmp_path / "ternary.nc")
    write_dataset(results["tau"][0].assign_attrs(kind="spell"), tmp_path / "spell.nc")
    write_dataset(xr.Dataset(attrs={"kind": "tau"}), tmp_path / "hollow.nc")
    (tmp_path / "text.nc").write_text("not a result")
    (tmp_path / "empty.nc").touch()
    (tmp_path / "half.nc").write_bytes((tmp_path / "tau.nc").read_bytes()[:3000])
    for arguments, message in (
        (["tau.nc", "--style", "distributoin"], "did you mean 'distribution'?"),
        (["tau.nc", "--venue", "nature"], "venue must be one of icml"),
        (["tau.nc", "--format", "bmp"], "format must be one of pdf, png, svg, got 'bmp'"),
        (["tau.nc", "ternary.nc"], "different kinds (tau, ternary)"),
        (["spell.nc"], "does not say what it is"),
        (["hollow.nc"], "hollow.nc: has no measure, which every tau has"),
        (["text.nc"], "text.nc: not a kdviz result"),
        (["empty.nc"], "empty.nc: not a kdviz result"),
        (["half.nc"], "half.nc: not a kdviz result"),
        (["gone.nc"], "result not found"),
        (["."], "not a kdviz result"),
    ):
        paths = [tmp_path / one if one.endswith(".nc") or one == "." else one for one in arguments]
        assert message in refused(capsys, monkeypatch, "plot", *paths), arguments
    with pytest.raises(KdvizError, match="unknown kind of result 'spell'"):
        plots.draw(results["tau"][0].assign_attrs(kind="spell"))


def test_the_command_draws_again_without_torch_or_pyplot(results, tmp_path):
    write_dataset(results["surface"][0], tmp_path / "surface.nc")
    code = (
        "import sys; from kdviz.cli.app import app\n"
        "app(['plot', 'surface.nc', '--style', 'contour,surface', '--venue', 'tmlr', '--format', 'pdf'],"
        " standalone_mode=False)\n"
        "print([name for name in ('torch', 'matplotlib.pyplot', 'scipy.optimize') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    written = [line.rpartition("/")[2] for line in done.stdout.splitlines()]
    assert written == ["contour.pdf", "contour.tex", "surface.pdf", "surface.tex", "[]"]
