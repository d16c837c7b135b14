"""The command line's last line of defence: whatever happens, one line on stderr and the right exit code."""

import signal
import subprocess
import sys
import time

import pytest

from kdviz.base.check import KdvizError
from kdviz.cli import app


def run(monkeypatch, capsys, *words, raising=None):
    """(exit code, stderr) of the command line, in which every command raises `raising`."""

    def fail(*_, **__):
        raise raising

    if raising is not None:
        monkeypatch.setattr(app.Commands, "invoke", fail)
    monkeypatch.setattr(sys, "argv", ["kdviz", *words])
    with pytest.raises(SystemExit) as caught:
        app.main()
    return caught.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (KdvizError("a\nb"), "kdviz: a b\n"),
        (OSError(28, "No space left on device", "x.nc"), "kdviz: No space left on device x.nc\n"),
        (MemoryError(), "kdviz: not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "kdviz: not enough memory"),
        (ZeroDivisionError("float\ndivision"), "kdviz: unexpected ZeroDivisionError (app.py, line"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "kdviz: unexpected UnicodeDecodeError"),
    ],
)
def test_an_error_is_one_line_and_exit_code_1(monkeypatch, capsys, error, line):
    code, err = run(monkeypatch, capsys, "list", "losses", raising=error)
    assert code == 1
    assert err.startswith(line)
    assert err.count("\n") == 1
    if "unexpected" in line:
        assert "please report it with the traceback that --debug shows" in err


@pytest.mark.parametrize("error", [KdvizError("a"), ZeroDivisionError("b"), OSError(28, "full")])
def test_debug_alone_shows_the_traceback(monkeypatch, error):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr(app.Commands, "invoke", fail)
    monkeypatch.setattr(sys, "argv", ["kdviz", "list", "--debug", "losses"])
    with pytest.raises(type(error)):
        app.main()


MAIN = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from kdviz.cli import app, common
import kdviz.cli.inspect

def wait(*_, **__):
    print("in", flush=True)
    time.sleep(60)

kdviz.cli.inspect.open_checkpoint = wait
sys.argv = ["kdviz", "inspect", "a.pt"]
app.main()
"""


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "kdviz: interrupted;"), (signal.SIGTERM, 143, "kdviz: terminated;")],
)
def test_signals_end_a_command_in_a_line_and_their_code(number, code, line):
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", MAIN], **pipes) as process:
        assert process.stdout.readline() == "in\n"
        time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err == f"{line} what was done is kept\n"
