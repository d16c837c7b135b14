"""Archives fetched from a server on the loopback address that breaks off, resumes, lies and refuses."""

import hashlib
import http.server
import re
import threading
import zipfile

import pytest
from typer.testing import CliRunner

from kdviz.base.check import KdvizError
from kdviz.cli.app import app
from kdviz.data import class_names, fetch

CONTENT = bytes(range(256)) * 4096  # 1 MiB


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `content` with ranges; `cuts` says after how many bytes each of the next answers breaks off."""

    content, cuts, ranges, status, asked = CONTENT, [], True, None, []

    def do_GET(self):
        kind = type(self)
        wanted = self.headers.get("Range")
        kind.asked.append(wanted)
        if kind.status:
            self.send_error(kind.status)
            return
        first = int(re.match(r"bytes=(\d+)-", wanted)[1]) if wanted and kind.ranges else 0
        if first and first >= len(kind.content):
            self.send_error(416)
            return
        body = kind.content[first:]
        self.send_response(206 if first else 200)
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(kind.content) - 1}/{len(kind.content)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: kind.cuts.pop(0)] if kind.cuts else body)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    kind = type("Own", (Server,), {"cuts": [], "asked": []})
    monkeypatch.setattr(fetch, "PAUSE", 0.0)
    monkeypatch.setattr(fetch, "TIMEOUT", 10.0)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        kind.url = f"http://127.0.0.1:{running.server_port}/toy.tar.gz"
        content(kind, monkeypatch, CONTENT)
        yield kind
        running.shutdown()
        thread.join()


def content(kind, monkeypatch, sent, *, file="toy.tar.gz", folder=""):
    kind.content = sent
    url = kind.url.rsplit("/", 1)[0] + f"/{file}"
    monkeypatch.setitem(fetch.ARCHIVES, "toy", fetch.Archive(url, hashlib.md5(sent).hexdigest(), folder))


def test_an_archive_comes_whole_and_is_not_fetched_twice(server, tmp_path):
    seen = []
    path = fetch.fetch("toy", tmp_path / "new", progress=lambda done, total: seen.append((done, total)))
    assert path.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert fetch.fetch("toy", tmp_path / "new") == path
    assert server.asked == [None]
    assert [one.name for one in path.parent.iterdir()] == ["toy.tar.gz"]


def test_a_broken_transfer_goes_on_where_it_stopped(server, tmp_path):
    server.cuts += [1000, 300_000, 5]
    assert fetch.fetch("toy", tmp_path).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=1000-", "bytes=301000-", "bytes=301005-"]


def test_a_later_call_goes_on_too_and_a_server_that_gives_nothing_is_given_up(server, tmp_path):
    server.cuts += [70_000, *[0] * 5]
    with pytest.raises(KdvizError, match="70000 bytes are kept"):
        fetch.fetch("toy", tmp_path)
    assert not (tmp_path / "toy.tar.gz").exists()
    server.asked.clear()
    assert fetch.fetch("toy", tmp_path).read_bytes() == CONTENT
    assert server.asked == ["bytes=70000-"]


def test_a_server_without_ranges_begins_anew(server, tmp_path):
    server.ranges = False
    server.cuts += [70_000]
    assert fetch.fetch("toy", tmp_path).read_bytes() == CONTENT


def test_a_part_that_is_already_whole(server, tmp_path):
    (tmp_path / "toy.tar.gz.part").write_bytes(CONTENT)
    assert fetch.fetch("toy", tmp_path).read_bytes() == CONTENT
    assert server.asked == [f"bytes={len(CONTENT)}-"]


def test_another_file_is_refused_and_removed(server, tmp_path):
    server.content = CONTENT[:-1] + b"x"
    with pytest.raises(KdvizError, match=r"sent another file than the published one \(MD5 "):
        fetch.fetch("toy", tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "toy.tar.gz").write_bytes(b"something")
    with pytest.raises(KdvizError, match="is not the published file"):
        fetch.fetch("toy", tmp_path)
    assert (tmp_path / "toy.tar.gz").read_bytes() == b"something"  # whose it is, nobody knows


def test_refusals_are_told_at_once(server, tmp_path):
    server.status = 404
    with pytest.raises(KdvizError, match="404 Not Found"):
        fetch.fetch("toy", tmp_path)
    assert len(server.asked) == 1
    server.status = 503
    with pytest.raises(KdvizError, match="503 Service Unavailable"):
        fetch.fetch("toy", tmp_path)
    assert len(server.asked) == 1 + fetch.TRIES
    with pytest.raises(KdvizError, match="unknown data set to fetch 'cifar1000'; did you mean 'cifar100'"):
        fetch.fetch("cifar1000", tmp_path)
    with pytest.raises(KdvizError, match="expected an http or https address, got 'file:///etc/passwd'"):
        fetch.fetch("toy", tmp_path, url="file:///etc/passwd")
    (tmp_path / "file").write_text("")
    with pytest.raises(KdvizError, match="cannot write to"):
        fetch.fetch("toy", tmp_path / "file")


def zipped(path, names):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, name)
    return path.read_bytes()


def test_a_zip_is_unpacked_and_nothing_outside_its_folder(server, tmp_path, monkeypatch):
    sent = zipped(tmp_path / "made.zip", ["toy-200/words.txt", "toy-200/train/n01/a.txt"])
    content(server, monkeypatch, sent, file="toy.zip", folder="toy-200")
    root = tmp_path / "root"
    folder = fetch.fetch("toy", root)
    assert (folder / "train" / "n01" / "a.txt").read_text() == "toy-200/train/n01/a.txt"
    assert sorted(one.name for one in root.iterdir()) == ["toy-200", "toy.zip"]
    assert fetch.fetch("toy", root) == folder
    assert len(server.asked) == 1
    hostile = zipped(tmp_path / "hostile.zip", ["toy-200/words.txt", "toy-200/../../x"])
    content(server, monkeypatch, hostile, file="toy.zip", folder="toy-200")
    with pytest.raises(KdvizError, match="outside of toy-200/; refused"):
        fetch.fetch("toy", tmp_path / "other")
    assert not (tmp_path / "x").exists()


def test_the_command(server, tmp_path):
    result = CliRunner().invoke(app, ["data", "fetch", "toy", "--root", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == str(tmp_path / "toy.tar.gz")
    result = CliRunner().invoke(app, ["data", "get", "toy", "--root", str(tmp_path)])
    assert "action must be one of fetch, got 'get'" in str(result.exception)
    mirror = ["data", "fetch", "toy", "toy", "--url", server.url, "--root", str(tmp_path)]
    assert "--url is for one data set" in str(CliRunner().invoke(app, mirror).exception)


def test_cifars_names_are_in_label_order():
    assert len(set(class_names.CIFAR100)) == 100
    assert list(class_names.CIFAR100) == sorted(class_names.CIFAR100)
    assert len(class_names.CIFAR10) == 10
    assert list(class_names.CIFAR10) == sorted(class_names.CIFAR10)
    assert class_names.class_names("cifar100", 10) == tuple(f"class {number}" for number in range(10))
