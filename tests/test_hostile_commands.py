"""Every command with nonsense for every option, in one process: an exit code and one line, never a traceback."""

import json
import sys
from pathlib import Path

import pytest
import torch
import typer.main

from kdviz.cli import app
from kdviz.models import build

ROOT = Path(__file__).parent.parent
NONSENSE = ("", "-1", "nan", "1e308", "1" + 21 * "0", "folder:/etc", "\udcff.pt")
BASE = {  # quick arguments that let a command come as far as it can without a net
    "inspect": ["good.pt"],
    "plot": ["good.nc"],
    "report": ["good.pt"],
    "list": ["losses"],
    "paper": ["rkkd", "tab2"],
    "surface": ["--steps", "5", "--loss", "kd"],
    "doctor": [],
}
COMMANDS = typer.main.get_command(app.app).commands


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    state = build("resnet8", classes=10, seed=0).state_dict()
    torch.save({"model": state}, folder / "good.pt")
    (folder / "good.nc").write_bytes((ROOT / "reports" / "rkkd" / "fig2" / "toy.nc").read_bytes())
    return folder


def options():
    for name, command in COMMANDS.items():
        for option in command.params:
            if option.opts and option.opts[0].startswith("--") and option.name not in ("help", "version"):
                yield pytest.param(name, option, id=f"{name} {option.opts[0]}")


def ended(monkeypatch, capsys, place, words):
    """(exit code, stderr) of the command line."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["kdviz", *words])
    try:
        app.main()
        code = 0
    except SystemExit as ending:
        code = ending.code or 0
    return code, capsys.readouterr().err


@pytest.mark.parametrize(("name", "option"), list(options()))
def test_nonsense_for_an_option_is_one_line(monkeypatch, capsys, place, name, option):
    words = BASE.get(name, ["gone.pt"])
    for value in (None,) if option.is_flag else NONSENSE:
        given = [option.opts[0]] if value is None else [option.opts[0], value]
        code, err = ended(
            monkeypatch, capsys, place, [name, *words, *given, "-o", "out"][: None if _has_out(name) else -2]
        )
        assert code in (0, 1, 2), (value, err)
        assert "Traceback" not in err
        assert "unexpected" not in err, (value, err)
        assert code == 2 or err.count("\n") <= 2, (value, err)


def _has_out(name):
    return any("-o" in option.opts for option in COMMANDS[name].params)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("list", "doctor")])
@pytest.mark.parametrize(
    "argument", ["", ".", "gone", "/dev/null", "/dev/zero", "\udcff", "a" * 5000, "good.nc", "good.pt"]
)
def test_nonsense_for_an_argument_is_one_line(monkeypatch, capsys, place, name, argument):
    if argument == "good.pt" and name in ("train", "histogram", "tau", "suboptimal", "landscape", "report", "inspect"):
        return  # would begin to work
    if argument in ("", ".", "good.nc") and name == "view":
        return  # would serve it until Ctrl-C
    code, err = ended(monkeypatch, capsys, place, [name, argument])
    assert code in (0, 1, 2)
    assert "Traceback" not in err
    assert "unexpected" not in err, err
    assert code == 2 or err.count("\n") <= 2, err


EVIL = "<script>document.title='ran'</script>"
FIELDS = [
    *[{"name": value} for value in (3, "os:_exit", "resnet8\n", EVIL)],
    *[{"classes": value} for value in ("10", True, -1, 2**70, None)],
    *[{"data": value} for value in ("folder:/etc", 3, "a\0b", "\ud800", EVIL)],
    *[{"method": value} for value in ({"a": 1}, "\ud800", EVIL, "\x1b[2J")],
    *[{"recipe": value} for value in (None, [], {"a": torch.zeros(2)}, {"normalization": {"mean": [0.1], "std": []}})],
    *[{"recipe": {"settings": value}} for value in (3, EVIL, {EVIL: EVIL})],
    *[{"metrics": value} for value in (3, {"last": 3}, {"last": {"top1": "x"}}, {"last": {"top1": 7.0}}, {"x": {}})],
    *[{"teacher": value} for value in (3, {}, {"path": 3}, {"path": "../../etc/passwd"}, {"path": "x", "sha256": "x"})],
    *[{"versions": value} for value in (3, {"a": 3}, {3: "a"}, {EVIL: EVIL})],
    *[{"seed": value} for value in ("0", 2**70, 1.5)],
    *[{"epoch": value} for value in ("0", -1, 1.5, float("nan"))],
    *[{"which": value} for value in ("best\n", 3, None)],
    *[{"state_dict": value} for value in (3, {}, {"a": 3}, {3: torch.zeros(1)}, {"\ud800": torch.zeros(1)})],
    *[{"kdviz": value} for value in ("1", 2, torch.zeros(2), None)],
]


@pytest.mark.parametrize("changes", FIELDS, ids=[str(i) for i in range(len(FIELDS))])
def test_made_up_metadata_is_one_line_for_every_command(monkeypatch, capsys, place, changes):
    payload = {
        "kdviz": 1,
        "name": "resnet8",
        "classes": 10,
        "data": "glyphs100",
        "method": "kd",
        "seed": 0,
        "epoch": 1,
        "which": "last",
        "recipe": {},
        "metrics": {},
        "teacher": None,
        "versions": {},
        "state_dict": build("resnet8", classes=10, seed=0).state_dict(),
    }
    torch.save(payload | changes, place / "bad.pt")
    for words in (["inspect"], ["inspect", "--json"], ["tau"], ["landscape"], ["report", "-o", "page.html"]):
        code, err = ended(monkeypatch, capsys, place, [words[0], "bad.pt", *words[1:]])
        assert "Traceback" not in err
        assert "unexpected" not in err, err
        assert err.count("\n") == (1 if code else 0), err
    page = place / "page.html"
    if page.exists():
        assert EVIL not in page.read_text(encoding="utf-8")
        page.unlink()


def test_the_terminal_gets_no_control_characters(monkeypatch, capsys, place):
    torch.save(
        {"model": build("resnet8", classes=10, seed=0).state_dict(), "opt": {"\x1b[2J": "\x1b]0;x\a"}}, place / "a.pt"
    )
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "argv", ["kdviz", "inspect", "a.pt"])
    with pytest.raises(SystemExit) as ending:
        app.main()
    told = capsys.readouterr().out
    assert ending.value.code in (0, None)
    assert "\x1b" not in told
    monkeypatch.setattr(sys, "argv", ["kdviz", "inspect", "a.pt", "--json"])
    with pytest.raises(SystemExit):
        app.main()
    assert json.loads(capsys.readouterr().out)["recipe"]
