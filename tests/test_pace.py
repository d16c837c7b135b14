"""The line that says about how long a command will take, by a clock of the test's own."""

from kdviz.base.times import duration
from kdviz.cli.pace import Pace, progress


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def said(pieces, total):
    """What is said when each (seconds, pieces done) is reported in turn."""
    clock, lines = Clock(), []
    pace = Pace(lambda text: lines.append((clock.now - 100, text)), clock)
    for seconds, done in pieces:
        clock.now += seconds
        pace(done, total)
    return lines


def test_an_even_pace_is_said_once_after_the_first_piece():
    assert said([(0, 0), *((2, k) for k in range(1, 101))], 100) == [(2, "about 3 min 18 s")]


def test_short_work_and_unknown_totals_are_not_worth_a_line():
    assert said([(0, 0), *((0.6, k) for k in range(1, 11))], 10) == []
    assert said([(0, 0), *((2, k) for k in range(1, 50))], 0) == []


def test_the_first_pieces_are_timed_for_a_while():
    assert said([(0, 0), *((0.125, k) for k in range(1, 301))], 300) == [(0.5, "about 37 s")]


def test_slower_pieces_are_said_again():
    """Fifty points of a second each, then fifty that take ten: the end goes from 100 s to 550 s."""
    lines = said([(0, 0), *((1, k) for k in range(1, 51)), *((10, k) for k in range(51, 101))], 100)
    assert lines[0] == (1, "about 1 min 39 s")
    assert 1 < len(lines) < 8, "but not at every piece"
    assert lines[1][0] < 150, "it is said soon after the pace has changed"


def test_resumed_work_counts_only_what_is_done_now():
    assert said([(0, 90), (5, 91)], 100) == [(5, "about 45 s")]


def test_a_second_pass_begins_anew():
    assert said([(0, 0), (1, 5), (5, 0), (20, 1)], 2) == [(26, "about 20 s")]


def test_durations_are_rounded_as_one_says_them():
    given = (0.4, 59.4, 60, 61, 599, 600, 3599, 3600, 86399)
    expected = ["0 s", "59 s", "1 min", "1 min 1 s", "9 min 59 s", "10 min", "59 min", "1 h", "23 h 59 min"]
    assert [duration(seconds) for seconds in given] == expected


def test_a_pipe_gets_the_line_and_no_bar(monkeypatch, capsys):
    clock = Clock()
    monkeypatch.setattr("kdviz.cli.pace.time.monotonic", clock)
    monkeypatch.setattr(Pace.__init__, "__defaults__", (clock,))
    with progress("planes", 100) as moved:
        moved(0, 0)
        clock.now += 2
        moved(1, 0)
    assert capsys.readouterr().err == "planes: about 3 min 18 s\n"
