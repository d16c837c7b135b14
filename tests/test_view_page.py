"""The page of `kdviz view` in headless Chromium: what is clicked and pressed shows the images that it should."""

import importlib.util
import json
import time

import browser
import numpy as np
import pytest
import scipy.stats
import viewed

from kdviz.base.files import read_dataset
from kdviz.base.lock import locked
from kdviz.viewer import view

pytestmark = pytest.mark.skipif(
    browser.chromium() is None or importlib.util.find_spec("websocket") is None,
    reason="no Chromium, or no websocket-client to drive it with",
)
READ = "[...document.querySelectorAll('.card img')].every((one) => one.complete)"
WAIT = f"!document.body.innerText.includes('Reading images') && {READ}"
CARDS = "[...document.querySelectorAll('.card')].map((one) => Number(one.dataset.sample))"
LINES = "document.querySelector('#runs svg')?.querySelectorAll('.series').length"
# The colour in the middle of a card's image, as the browser decoded it.
COLOUR = """(() => {{ const one = document.querySelector('.card[data-sample="{}"] img');
const pen = Object.assign(document.createElement('canvas'), {{ width: 8, height: 8 }}).getContext('2d');
pen.drawImage(one, 0, 0); return [...pen.getImageData(4, 4, 1, 1).data].slice(0, 3); }})()"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewed")
    viewed.build(folder)
    return folder


@pytest.fixture(scope="module")
def server(place):
    with viewed.served(place) as found:
        yield found


@pytest.fixture(scope="module")
def tab(tmp_path_factory):
    found = browser.Browser(tmp_path_factory.mktemp("chromium"))
    yield found
    found.close()


@pytest.fixture(params=["served", "saved"])
def page(request, server, tab, place):
    """The tab on the page, and how to open a result in it by its name; no error is left behind."""
    saved = place / "page.html"
    if request.param == "saved" and not saved.exists():
        view(place).save(saved)
    address = server.url if request.param == "served" else saved.as_uri()
    overview = json.loads(server.answers.get("/api/overview", {}).body)
    names = {one["name"]: one["id"] for one in overview["results"]}
    tab.screen(1200, 900)

    def show(name=None, select=""):
        tab.open("about:blank")
        tab.open(address + (f"#result={names[name]}&select={select}" if name else ""))
        tab.until("document.querySelector('#detail h3')")
        return tab

    yield show
    assert tab.errors == []
    assert tab.run("typeof hacked") == "undefined"


def numbers(place):
    found = read_dataset(place / "reports/kd/logits.nc")
    student, teacher = (found[f"logits_{net}"].values.astype(float) for net in ("student", "teacher"))
    return student, teacher, found["target"].values


def test_runs_are_listed_and_their_curves_overlaid(page):
    tab = page()
    tab.until("document.querySelectorAll('#runs tbody tr').length === 4")
    rows = tab.run("[...document.querySelectorAll('#runs tbody tr')].map((one) => one.innerText)")
    assert any("runs/done" in row and "finished" in row and "45.00 % test" in row and "4 / 4" in row for row in rows)
    assert any("runs/half" in row and "stopped" in row and "130" in row for row in rows)
    tab.until(f"{LINES} === 4")
    tab.click("document.querySelector('#runs tbody input')")
    tab.until(f"{LINES} === 3")
    assert viewed.EVIL in tab.run("document.getElementById('runs').innerText")


def test_an_epoch_that_ends_appears_by_itself(page, place, request):
    tab = page()
    if "saved" in request.node.name:
        return
    folder = viewed.journal(place / "runs" / "live", epochs=1)
    with locked(folder):
        tab.until("document.getElementById('runs').innerText.includes('running')")
        with (folder / "journal.jsonl").open("a") as stream:
            stream.write(json.dumps(viewed.epoch(2)) + "\n")
        tab.until(
            "[...document.querySelectorAll('#runs svg:first-of-type g')].some((one) => one.children.length === 3)"
        )
    (folder / "journal.jsonl").unlink()
    tab.until("!document.getElementById('runs').innerText.includes('runs/live')")


def test_a_bin_of_a_histogram_shows_its_images(page, place):
    tab = page("reports/kd/histogram.nc")
    student, teacher, _ = numbers(place)
    bins = tab.run("[...document.querySelector('#detail svg').querySelectorAll('.hit')].length")
    edges = read_dataset(place / "reports/kd/histogram.nc")["logit"]
    width = (float(edges[-1] - edges[0]) + edges.attrs["width"]) / bins
    at = int((student.max() - float(edges[0])) / width)
    tab.click(f"document.querySelector('#detail svg [data-bin=\"{at}\"]')")
    tab.until(f"document.querySelector('.card') && {WAIT}")
    low, high = tab.run("document.querySelector('#detail section h3').innerText.match(/-?[\\d.]+/g).map(Number)")
    expected = [i for i in range(24) if any(low <= one < high for one in np.round(student[i], 3))]
    assert tab.run(CARDS) == expected != []
    first = expected[0]
    assert tab.run(COLOUR.format(first)) == list(viewed.colour(first))
    lists = f"[...document.querySelectorAll('.card[data-sample=\"{first}\"] ol')]"
    texts = "[...one.querySelectorAll('li span:first-of-type')].map((two) => two.innerText)"
    tops = tab.run(f"{lists}.map((one) => {texts})")
    assert tops == [[viewed.NAMES[c] for c in np.argsort(-one[first])] for one in (teacher, student)]


def test_the_keyboard_alone_chooses_a_bin(page, place):
    tab = page("reports/kd/tau.nc")
    tab.run("document.querySelector('#detail svg').focus()")
    for key in ("Home", "ArrowRight", "ArrowLeft"):
        tab.key(key)
    tab.key("Enter", "\r")
    tab.until(f"document.querySelector('.card') && {WAIT}")
    student, teacher, _ = numbers(place)
    tau = [scipy.stats.kendalltau(*pair).statistic for pair in zip(student, teacher, strict=True)]
    assert tab.run(CARDS) == [i for i in range(24) if np.isclose(tau[i], min(tau))]
    seen = set()
    for _ in range(60):
        tab.key("Tab")
        seen.add(tab.run("document.activeElement.id"))
        focus = "getComputedStyle(document.activeElement).outlineStyle"
        assert tab.run(f"document.activeElement === document.body || {focus} !== 'none'")
    assert {"low-tau"} <= seen


def test_the_low_tail_of_tau_shows_its_images(page, place):
    tab = page("reports/kd/tau.nc")
    tab.click("document.getElementById('low-tau')")
    tab.until(f"document.querySelector('.card') && {WAIT}")
    student, teacher, _ = numbers(place)
    tau = np.array([scipy.stats.kendalltau(*pair).statistic for pair in zip(student, teacher, strict=True)])
    shown = tab.run(CARDS)
    assert shown == np.argsort(np.round(tau, 3), kind="stable")[:2].tolist(), "5 % of 24, rounded up"
    assert "select=low-tau" in tab.run("location.hash")


def test_a_cell_of_the_confusion_matrix_shows_its_images(page, place):
    tab = page("reports/kd/logits.nc")
    student, _, target = numbers(place)
    best = student.argmax(1)
    row, column = next((t, b) for t, b in zip(target, best, strict=True) if t != b)
    canvas = "document.querySelector('canvas[aria-label^=Confusion]')"
    tab.until(f"{canvas}.style.width")
    tab.place(canvas)
    side = tab.run(f"({canvas}.clientWidth - 2) / 4")
    tab.click(canvas, dx=(column - 1.5) * side, dy=(row - 1.5) * side)
    tab.until(f"document.querySelector('.card') && {WAIT}")
    expected = [i for i in range(24) if target[i] == row and best[i] == column]
    assert tab.run(CARDS) == expected
    assert tab.run(COLOUR.format(expected[0])) == list(viewed.colour(expected[0]))
    tab.click("[...document.querySelectorAll('.four button')][0]")
    tab.until("document.querySelector('#detail section h3').innerText === 'Teacher right, student right'")


def test_a_point_of_an_embedding_shows_its_image_first(page, place):
    tab = page("reports/kd/logits.nc")
    canvas = "document.querySelector('canvas[aria-label*=embedding]')"
    tab.run(f"{canvas}.focus()")
    tab.key("ArrowRight")  # the first point is the leftmost
    tab.key("Enter", "\r")
    tab.until(f"document.querySelector('.card') && {WAIT}")
    shown = tab.run(CARDS)
    point = tab.run("document.querySelector('#detail section h3').innerText.match(/\\d+/)[0]")
    assert len(shown) == 12
    assert shown[0] == int(point)
    assert f"select=point%3A0%3A{point}" in tab.run("location.hash")


def test_a_link_opens_what_was_chosen(page, place):
    tab = page("reports/kd/logits.nc", "four:1:0")
    tab.until(f"document.querySelector('#detail section h3') && {WAIT}")
    student, teacher, target = numbers(place)
    assert tab.run(CARDS) == [i for i in range(24) if teacher[i].argmax() == target[i] != student[i].argmax()]


def test_a_landscape_is_turned_by_mouse_and_keys(page):
    tab = page("reports/around/landscape.nc")
    canvas = "document.querySelector('canvas.surface')"
    picture = f"{canvas}.toDataURL()"
    tab.until(f"{canvas}.width > 300")
    looks = [tab.run(picture)]
    x, y = tab.place(canvas)
    for kind, at in (("mousePressed", x), ("mouseMoved", x + 80), ("mouseReleased", x + 80)):
        tab.send("Input.dispatchMouseEvent", type=kind, x=at, y=y, button="left", clickCount=1)
    looks.append(tab.run(picture))
    tab.run(f"{canvas}.focus()")
    for key in ("ArrowLeft", "ArrowUp", "+"):
        tab.key(key)
        looks.append(tab.run(picture))
    assert len(set(looks)) == 5
    tab.key("0")
    assert tab.run(picture) == looks[0]
    assert viewed.EVIL in tab.run("document.querySelector('#detail h3').innerText")


@pytest.mark.parametrize("result", ["reports/kd/tau.nc", "reports/kd/logits.nc", "reports/around/landscape.nc"])
def test_a_phone_needs_no_scrolling_to_the_side(page, result):
    tab = page(result)
    tab.screen(390, 844, phone=True, dark=True)
    time.sleep(0.3)
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"


def test_a_file_that_is_no_result_says_so(page):
    tab = page()
    tab.click("[...document.querySelectorAll('#list a')].find((one) => one.innerText.includes('damaged'))")
    tab.until("document.getElementById('detail').innerText.includes('not a kdviz result')")
    tab.errors[:] = [one for one in tab.errors if "422" not in one]  # the browser's own line on the answer


def test_a_kind_without_a_view_of_its_own_shows_its_figure(page):
    tab = page("reports/around/sharpness.nc")
    tab.until("document.querySelector('img.figure')?.naturalWidth > 300")
