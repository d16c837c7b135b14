"""`kdviz view`: its answers, who may ask for them, and the saved page; in a browser: test_view_page.py."""

import base64
import html
import http.client
import io
import json
import os
import re
import signal
import subprocess
import sys
from html.parser import HTMLParser
from urllib.parse import quote

import numpy as np
import pytest
import scipy.stats
import viewed
from PIL import Image

import kdviz
from kdviz.base.check import KdvizError
from kdviz.base.files import read_dataset, write_dataset
from kdviz.base.lock import locked
from kdviz.checkpoints.run_folder import RunFolder
from kdviz.data import DATA
from kdviz.tables.queue import Queue, Worker, plans
from kdviz.viewer import images, samples
from kdviz.viewer.answers import Answers
from kdviz.viewer.library import QUEUE, RESULT, RUN, Library
from kdviz.viewer.page import page
from kdviz.viewer.runs import SYNTHETIC, curves, summary, tables
from kdviz.viewer.saved import record
from kdviz.viewer.server import Server


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("viewed")
    viewed.build(folder)
    return folder


@pytest.fixture(scope="module")
def answers(place):
    return Answers(Library([place]))


@pytest.fixture(scope="module")
def server(place):
    with viewed.served(place) as found:
        yield found


def ids(answers):
    return {one.name: one.id for one in answers.library.items()}


def get(server, path, *, method="GET", **headers):
    """(status, headers, body) of a raw request: the path goes out as it is."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=60)
    given = {"Host": f"127.0.0.1:{server.server_port}"} | {
        name.replace("_", "-"): text for name, text in headers.items()
    }
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, text in given.items():
        connection.putheader(name, text)
    connection.endheaders()
    reply = connection.getresponse()
    found = reply.status, dict(reply.headers), reply.read()
    connection.close()
    return found


# Who may ask


def test_the_server_is_reached_from_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


@pytest.mark.parametrize("path", ["/", "/api/overview"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example:80"},
        {"Host": "127.0.0.1"},
        {"Host": ""},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "no-cors"},
        {"Sec_Fetch_Site": "same-site", "Sec_Fetch_Mode": "cors"},
    ],
)
def test_other_sites_are_refused(server, path, headers):
    status, _, body = get(server, path, **headers)
    assert status == 403
    assert b"runs" not in body


def test_our_own_page_and_a_typed_address_are_answered(server):
    own = f"127.0.0.1:{server.server_port}"
    for headers in (
        {},
        {"Host": own.replace("127.0.0.1", "localhost")},
        {"Origin": f"http://{own}", "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate"},
    ):
        status, sent, _ = get(server, "/api/overview", **headers)
        assert status == 200
        assert not [name for name in sent if name.lower().startswith("access-control")]
        assert sent["Cross-Origin-Resource-Policy"] == "same-origin"
        assert sent["X-Frame-Options"] == "DENY"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD"])
def test_only_get_is_answered(server, method):
    status, sent, _ = get(server, "/api/overview", method=method)
    assert status == 405
    assert sent["Allow"] == "GET"


@pytest.mark.parametrize(
    "path",
    [
        "/../../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/page?id=../../../../etc/passwd",
        "/page?id=/etc/passwd",
        "/api/result?id=..%2f..%2fetc%2fpasswd",
        "/page",
        "/figure?id=x",
        "/api/nothing",
        "//etc/passwd",
        "/page/../../etc/passwd",
    ],
)
def test_nothing_is_reached_by_path(server, path):
    status, _, body = get(server, path)
    assert status == 404
    assert b"root:" not in body


def test_an_id_opens_only_what_it_is_of(server, answers):
    name = ids(answers)
    assert get(server, f"/page?id={name['reports/kd/tau.nc']}")[0] == 404
    assert get(server, f"/api/result?id={name['runs/done']}")[0] == 404


def test_a_report_is_shown_in_an_origin_of_its_own(server, answers):
    status, sent, body = get(server, f"/page?id={ids(answers)['reports/kd/report.html']}")
    assert (status, body) == (200, b"<title>an earlier report</title>")
    assert sent["Content-Security-Policy"].startswith("sandbox ")
    assert "allow-same-origin" not in sent["Content-Security-Policy"]


def test_an_answer_that_the_browser_has_is_not_sent_again(server):
    _, sent, _ = get(server, "/")
    status, _, body = get(server, "/", If_None_Match=sent["ETag"])
    assert (status, body) == (304, b"")


def test_a_port_that_is_taken_is_one_line(server, place):
    with pytest.raises(KdvizError, match=f"--port {server.server_port}: .*leave it out"):
        Server(Library([place]), server.server_port)


SERVE = """
import json, sys, threading, urllib.request
from kdviz.viewer.library import Library
from kdviz.viewer.server import Server
server = Server(Library([sys.argv[1]]))
threading.Thread(target=server.serve_forever, daemon=True).start()
ask = lambda path: urllib.request.urlopen(server.url + path).read()
ask("")
early = {"torch", "xarray", "matplotlib"} & set(sys.modules)
found = json.loads(ask("api/overview"))
for run in found["runs"]:
    ask(f"api/curves?id={run['id']}")
images = 0
for one in found["results"]:
    try:
        result = json.loads(ask(f"api/result?id={one['id']}"))
        ask(f"figure?id={one['id']}&style=profile") if result["kind"] == "landscape" else None
        if result["samples"]:
            table = json.loads(ask(f"api/samples?id={result['samples']}"))
            images += len(json.loads(ask(f"api/images?id={result['samples']}&samples=0,5"))["images"])
    except urllib.error.HTTPError as error:
        assert error.code == 422, one
print(sorted(early), images, "torch" in sys.modules)
"""


def test_torch_is_never_imported_and_the_first_page_waits_for_nothing_heavy(place):
    done = subprocess.run([sys.executable, "-c", SERVE, str(place)], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "[] 6 False", done.stderr


def test_ctrl_c_ends_it_quietly(place):
    # a shell's background job ignores SIGINT, and so would its children
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)"
    program += "; from kdviz.cli.app import main; main()"
    command = [sys.executable, "-c", program, "view", str(place), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert re.match(r"http://127\.0\.0\.1:\d+/ ", process.stdout.readline())
        process.send_signal(signal.SIGINT)
        try:
            out, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, out.strip(), err) == (0, "", "")


# What is told


def test_a_run_is_finished_stopped_failed_or_running(place, answers):
    states = {one["name"]: one for one in answers.json("/api/overview")["runs"]}
    scored = {"score": 0.45, "measure": "top-1", "split": "test"}
    assert states["runs/done"] | {"state": "finished", "epoch": 4, **scored} == states["runs/done"]
    assert states["runs/half"] | {"state": "stopped", "epoch": 3, "epochs": 4, "rate": 130} == states["runs/half"]
    assert (states["runs/half"]["score"], states["runs/half"]["split"]) == (0.3, "val")
    assert states["runs/broken"]["state"] == "failed"
    assert states["runs/broken"]["note"] == f"the loss is not finite {viewed.EVIL}"
    item = next(one for one in answers.library.items(RUN) if one.name == "runs/half")
    with locked(item.path):
        assert summary(item)["state"] == "running"
    assert summary(item)["state"] == "stopped"


def test_synthetic_data_sets_are_called_so(answers):
    ours = {
        name: entry
        for name, entry in DATA.items()
        if getattr(entry.load, "func", entry.load).__module__.startswith("kdviz.")
    }
    assert {name for name, entry in ours.items() if entry.synthetic} == SYNTHETIC
    assert {one["data"] for one in answers.json("/api/overview")["runs"]} == {"glyphs100 (synthetic)"}


def test_curves_are_those_of_the_journal(answers):
    found = answers.json("/api/curves", id=ids(answers)["runs/half"])
    assert found["epoch"] == [1, 2, 3]
    assert found["columns"]["top-1 on val"] == [0.1, 0.2, 0.3]
    assert found["columns"]["training loss"] == [2.0, 1.0, 2 / 3]
    assert found["columns"]["images per second"] == [110, 120, 130]
    assert "loss on val" not in found["columns"], "NaN throughout"


def test_a_detectors_run_is_told_by_its_average_precision(tmp_path):
    folder = viewed.journal(tmp_path / "detector", epochs=0)
    lines = [{"event": "epoch", "epoch": one, "val": {"ap": one / 8, "ap50": one / 4}} for one in (1, 2)]
    with (folder / "journal.jsonl").open("a") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
    answers = Answers(Library([tmp_path]))
    (run,) = answers.json("/api/overview")["runs"]
    assert (run["measure"], run["score"], run["split"]) == ("AP", 0.25, "val")
    columns = answers.json("/api/curves", id=run["id"])["columns"]
    assert {"AP on val": [0.125, 0.25], "AP50 on val": [0.25, 0.5]}.items() <= columns.items()
    end = {"event": "end", "metrics": {"last": {"ap": 0.375, "ap50": 0.5}}}
    with (folder / "journal.jsonl").open("a") as stream:
        stream.write(json.dumps(end) + "\n")
    (run,) = Answers(Library([tmp_path])).json("/api/overview")["runs"]
    assert (run["measure"], run["score"], run["split"]) == ("AP", 0.375, "test")


@pytest.mark.parametrize("value", [None, [], "x", 10**400, float("inf"), {"top1": "x"}, True])
def test_a_made_up_journal_is_shown_as_far_as_it_goes(tmp_path, value):
    run = tmp_path / "run"
    run.mkdir()
    lines = [
        {"event": "start", "recipe": value, "teacher": value, "name": value, "method": value},
        {"event": "epoch", "epoch": 1, "val": value, "train": {"total": value}, "images_per_second": value},
        {"event": "end", "metrics": value},
    ]
    (run / "journal.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n{torn")
    (item,) = Library([run]).items(RUN)
    json.dumps([summary(item), curves(item)], allow_nan=False)


def test_an_error_in_training_is_in_the_journal(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(KdvizError), run.failures_logged():
        raise KdvizError("the loss\nis not finite")
    with pytest.raises(KeyboardInterrupt), run.failures_logged():
        raise KeyboardInterrupt
    assert run.events() == [{"event": "failed", "text": "the loss is not finite"}]


def test_a_table_is_told_by_its_queue_which_is_only_read(tmp_path):
    queue = Queue(tmp_path / "queue.sqlite")
    queue.put("tables/mine", [(name, {"folder": name}, None) for name in ("a", "b", "c", "d")], ["a"])
    alive, dead = Worker(tmp_path), Worker(tmp_path)
    failing, running, lost = queue.take("tables/mine", alive), None, None
    assert failing is not None
    queue.fail(failing.id, alive, f"no memory {viewed.EVIL}", final=True)
    running, lost = queue.take("tables/mine", alive), queue.take("tables/mine", dead)
    assert running is not None
    assert lost is not None
    before = queue.path.read_bytes()
    (item,) = Library([tmp_path]).items(QUEUE)
    (told,) = tables(item)
    assert [told[key] for key in ("name", "total", "done", "running", "waiting", "failed")] == ["mine", 4, 1, 2, 0, 1]
    assert told["errors"] == [{"id": "b", "line": f"no memory {viewed.EVIL}"}]
    dead.close()
    assert [told[key] for told in tables(item) for key in ("now", "waiting")] == [[running.id], 1]
    assert queue.path.read_bytes() == before
    alive.close()


def test_a_file_that_is_no_queue_is_one_line(tmp_path):
    (tmp_path / "queue.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(KdvizError, match="not a queue"):
        plans(tmp_path / "queue.sqlite")
    (told,) = tables(Library([tmp_path]).items(QUEUE)[0])
    assert "not a queue" in told["error"]


def test_a_result_that_cannot_be_read_says_so(answers, server):
    status, _, body = get(server, f"/api/result?id={ids(answers)['reports/kd/damaged.nc']}")
    assert status == 422
    assert "not a kdviz result" in json.loads(body)["error"]


def test_a_landscape_comes_with_its_missing_points(answers):
    view = answers.json("/api/result", id=ids(answers)["reports/around/landscape.nc"])["view"]
    (panel,) = view["panels"]
    assert (view["type"], panel["title"], panel["unit"]) == ("grid", "cross-entropy", "nats")
    assert panel["values"][0][0] is None
    alpha, beta = view["x"].index(0.5), view["y"].index(-1.0)
    assert panel["values"][beta][alpha] == 1 + 0.25 + 2


def brute(place):
    """Every sample by itself: the top classes, tau-b by scipy, KL by scipy."""
    found = read_dataset(place / "reports/kd/logits.nc")
    student, teacher = found["logits_student"].values.astype(float), found["logits_teacher"].values.astype(float)
    soft = [np.exp(one) / np.exp(one).sum(1, keepdims=True) for one in (student, teacher)]
    return {
        "student": student,
        "teacher": teacher,
        "target": found["target"].values,
        "top": {"student": np.argsort(-student, 1), "teacher": np.argsort(-teacher, 1)},
        "p": {"student": -np.sort(-soft[0], 1), "teacher": -np.sort(-soft[1], 1)},
        "tau": np.array([scipy.stats.kendalltau(*pair).statistic for pair in zip(student, teacher, strict=True)]),
        "kl": scipy.stats.entropy(soft[1], soft[0], axis=1),
    }


def test_samples_are_told_with_top_five_tau_and_kl(place, answers):
    found, truth = answers.json("/api/samples", id=ids(answers)["reports/kd/logits.nc"]), brute(place)
    assert found["ids"] == [*range(24)]
    assert found["target"] == truth["target"].tolist()
    assert found["names"] == list(viewed.NAMES)
    for net in ("student", "teacher"):
        assert found[net]["top"] == truth["top"][net].tolist()  # four classes, so four of five
        np.testing.assert_allclose(found[net]["p"], truth["p"][net], rtol=1e-3)
    np.testing.assert_allclose(found["tau"], truth["tau"], rtol=1e-3)
    np.testing.assert_allclose(found["kl"], truth["kl"], rtol=2e-3)


def test_results_of_the_same_nets_and_images_find_their_samples(answers):
    name = ids(answers)
    for kind in ("tau", "histogram", "logits"):
        found = answers.json("/api/result", id=name[f"reports/kd/{kind}.nc"])
        assert found["samples"] == name["reports/kd/logits.nc"]
    assert answers.json("/api/result", id=name["reports/around/landscape.nc"])["samples"] is None


@pytest.mark.parametrize("space", ["logit", "probability"])
def test_behind_a_bin_are_the_samples_with_a_channel_in_it(place, answers, space):
    view = answers.json("/api/result", id=ids(answers)["reports/kd/histogram.nc"])["view"]
    found = next(one for one in view["spaces"] if one["name"] == space)
    truth = brute(place)
    for net in ("student", "teacher"):
        values = truth[net]
        if space == "probability":
            raised = np.exp(values / view["temperature"])
            values = raised / raised.sum(1, keepdims=True)
        total = 0
        for at, bin_ in enumerate(found["behind"][net]):
            low, high = found["edges"][at], found["edges"][at + 1]
            inside = [i for i in range(24) if any(low <= value < high for value in values[i])]
            assert bin_["ids"] == inside
            assert bin_["count"] == len(inside)
            assert all(low <= values[i, c] < high for i, c in zip(bin_["ids"], bin_["channels"], strict=True))
            total += found["counts"][net][at]
        assert total == 24 * 4


def test_an_audits_samples_are_read(tmp_path):
    import xarray as xr

    ranked = ("sample", "rank")
    attrs = {"kind": "samples", "data": "cifar10", "split": "test"}
    made = xr.Dataset(
        {
            "image": ("sample", [7, 9]),
            "target": ("sample", [0, 2]),
            "top_student": (ranked, [[0, 1], [1, 2]]),
            "top_teacher": (ranked, [[0, 2], [2, 1]]),
            "probability_student": (ranked, [[0.75, 0.125], [0.5, 0.25]]),
            "probability_teacher": (ranked, [[0.5, 0.25], [0.75, 0.125]]),
            "tau": ("sample", [1.0, np.nan]),
            "kl": ("sample", [0.5, 0.25]),
            "embedding_student": (("sample", "axis"), [[0.0, 1.0], [2.0, 3.0]]),
        },
        {"rank": [1, 2], "class_name": ("channel", ["a", "b", "c"])},
        attrs,
    )
    write_dataset(made, tmp_path / "samples.nc")
    library = Library([tmp_path])
    (item,) = library.items(RESULT)
    found = samples.table(library, item)
    assert (found["ids"], found["target"], found["names"]) == ([7, 9], [0, 2], ["a", "b", "c"])
    assert found["student"] == {"top": [[0, 1], [1, 2]], "p": [[0.75, 0.125], [0.5, 0.25]]}
    assert (found["tau"], found["kl"]) == ([1.0, None], [0.5, 0.25])
    assert found["embeddings"] == [{"name": "embedding_student", "x": [0.0, 2.0], "y": [1.0, 3.0]}]
    asked = samples.image_request(library, item, [9, 8])
    assert (asked["data"], asked["ids"], asked["target"]) == ("cifar10", [9], [2])


def test_an_audits_embeddings_join_the_samples_by_their_numbers(tmp_path):
    import xarray as xr

    known = viewed.logits("cifar10").isel(sample=[3, 5, 7])
    write_dataset(known, tmp_path / "logits.nc")
    position = np.arange(2 * 1 * 2 * 2, dtype=float).reshape(1, 2, 2, 2)  # tsne; teacher, student; samples 7 and 3
    coords = {"method": ["tsne"], "net": ["teacher", "student"], "sample": [7, 3], "axis": ["x", "y"]}
    attrs = known.attrs | {"kind": "embeddings", "data_sha256": "d" * 64, "finding": "half of them"}
    coords |= {"class_name": known["class_name"], "measure": ["shared"], "compared": ["student"]}
    made = xr.Dataset({"position": (("method", "net", "sample", "axis"), position)}, coords, attrs)
    made["target"], made["kept"] = ("sample", [1, 0]), ("channel", [0.5] * 4)
    for name in ("value", "difference"):
        made = made.assign({f"{name}{end}": (("measure", "compared"), [[0.5]]) for end in ("", "_low", "_high")})
    write_dataset(made, tmp_path / "embeddings.nc")
    asked = Answers(Library([tmp_path]))
    result = asked.json("/api/result", id=ids(asked)["embeddings.nc"])
    assert (result["view"], result["finding"]) == ({"type": "embedding"}, "half of them")
    found = asked.json("/api/samples", id=result["samples"])
    assert found["embeddings"][1] == {"name": "student's features, tsne", "x": [6.0, None, 4.0], "y": [7.0, None, 5.0]}


def test_principal_components_are_those_of_the_covariance():
    rows = np.random.default_rng(1).normal(size=(50, 5)) * [3, 1, 0.5, 0.2, 0.1]
    found = samples.principal(rows)
    _, _, directions = np.linalg.svd(rows - rows.mean(0), full_matrices=False)
    expected = (rows - rows.mean(0)) @ directions[:2].T
    np.testing.assert_allclose(np.abs(found), np.abs(expected.T), atol=1e-9)


def test_images_are_those_of_the_data_set(answers):
    found = answers.json("/api/images", id=ids(answers)["reports/kd/logits.nc"], samples="3,17,999,x")["images"]
    assert set(found) == {"3", "17"}
    for number, uri in found.items():
        png = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
        assert Image.open(io.BytesIO(png)).getpixel((4, 4)) == viewed.colour(int(number))


@pytest.mark.parametrize(("change", "says"), [("target", "another split"), ("data", "never chooses")])
def test_images_that_are_not_the_results_are_refused(place, tmp_path, change, says):
    made = read_dataset(place / "reports/kd/logits.nc")
    if change == "target":
        made["target"] = 3 - made["target"]
    else:
        made.attrs["data"] = "os:getcwd"
    write_dataset(made, tmp_path / "logits.nc")
    library = Library([tmp_path])
    request = samples.image_request(library, library.items(RESULT)[0], [0])
    with pytest.raises(KdvizError, match=says):
        images.write(request, tmp_path / "images.npz")


# The document


class Scripts(HTMLParser):
    """The script elements of a document, and every attribute that could load something."""

    def __init__(self, text):
        super().__init__()
        self.scripts, self.sources, self.tags = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.sources += [value for name, value in attrs if name in ("src", "href", "srcset", "action")]
        self.scripts += [""] if tag == "script" else []

    def handle_data(self, data):
        if self.scripts and self.tags[-1] == "script":
            self.scripts[-1] += data


@pytest.fixture(scope="module")
def kept(answers):
    return record(answers)


def test_the_document_loads_nothing_and_allows_only_its_own_script(kept):
    for text in (page(), page(kept)):
        parsed = Scripts(text)
        assert len(parsed.scripts) == 2
        assert set(parsed.sources) == {"#results-heading", "data:,"}
        policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', text)[1])
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        plain = re.sub(r'id="answers">.*?</script>', "", text, flags=re.DOTALL)
        assert re.findall(r"\w+://[\w.]+", plain) == ["http://www.w3.org"], "the name of SVG, which nobody fetches"


def test_a_saved_page_holds_every_answer_and_hostile_names_as_texts(answers, kept):
    text = page(kept)
    held = json.loads(Scripts(text).scripts[0])
    assert held == json.loads(json.dumps(kept))
    for sign in (viewed.EVIL, "<img", "onerror=hacked=1>"):
        assert sign not in text
    assert "runs/<img src=x onerror=hacked=1>" in [one["name"] for one in held["/api/overview"]["runs"]]
    logits = ids(answers)["reports/kd/logits.nc"]
    assert held[f"/api/samples?id={logits}"]["names"] == list(viewed.NAMES)
    for one in held["/api/overview"]["results"]:
        assert f"/api/result?id={one['id']}" in held
    assert set(held["images"][logits]) == {str(number) for number in range(24)}
    table = f"/download?id={ids(answers)['reports/around/landscape.nc']}&table={quote('alpha_beta')}&as=csv"
    assert held[table].startswith("alpha,beta,ce\n")


def test_what_is_too_large_for_a_saved_page_is_named(answers):
    found = record(answers, images=False, largest=2000)
    assert found["images"] == {}
    assert "reports/kd/histogram.nc" in found["left out"]


def test_jupyter_shows_the_page_in_a_frame(place):
    run = place / "runs" / "done"
    shown = kdviz.view(run)
    text = shown._repr_html_()
    sandbox, source = re.search(r'sandbox="([^"]*)".* srcdoc="([^"]*)"', text, re.DOTALL).groups()
    assert sandbox == "allow-scripts allow-downloads"
    assert html.unescape(source) == shown.html
    assert json.loads(Scripts(shown.html).scripts[0])["/api/overview"]["runs"][0]["epoch"] == 4


def test_the_command_saves_the_page(place, tmp_path):
    command = [sys.executable, "-m", "kdviz", "view", str(place / "runs"), "--save", str(tmp_path / "page.html")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert done.stdout.strip() == str(tmp_path / "page.html")
    assert len(json.loads(Scripts((tmp_path / "page.html").read_text()).scripts[0])["/api/overview"]["runs"]) == 4


@pytest.mark.parametrize(("name", "says"), [("gone", "not found: gone"), ("net.pt", "expected a folder")])
def test_a_path_that_cannot_be_shown_is_one_line(tmp_path, monkeypatch, name, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.pt").touch()
    with pytest.raises(KdvizError, match=says):
        Library([name])
