"""Lists of option values: by repetition, by commas, numbers also with spaces; nothing hangs on the folder's files."""

import sys

import pytest

from kdviz.base.check import KdvizError
from kdviz.cli.app import main
from kdviz.cli.lists import ListOption, expand_lists, refuse_spaced_words

OPTIONS = {"--temperature": ListOption(numbers=True), "--losses": ListOption(), "--logits": ListOption(commas=False)}


@pytest.mark.parametrize(
    ("words", "expanded"),
    [
        ("--losses ce --losses kd", "--losses ce --losses kd"),
        ("--losses ce,kd", "--losses ce --losses kd"),
        ("--losses=ce,kd a.pt", "--losses ce --losses kd a.pt"),
        ("--losses ce a.pt", "--losses ce a.pt"),
        ("--losses ce kd", "--losses ce kd"),  # names are not spread over words
        ("--temperature 2 1 .5 .1", "--temperature 2 --temperature 1 --temperature .5 --temperature .1"),
        ("--temperature 2,1,.5", "--temperature 2 --temperature 1 --temperature .5"),
        ("--temperature 2,1 -1e-3 run", "--temperature 2 --temperature 1 --temperature -1e-3 run"),
        ("--temperature=2 1 --steps 5", "--temperature 2 --temperature 1 --steps 5"),
        ("--logits s.npy,t.npy", "--logits s.npy,t.npy"),
        ("--steps 5 7", "--steps 5 7"),
        ("a.pt --losses", "a.pt --losses"),
    ],
)
def test_a_list_is_one_option_per_value(words, expanded):
    assert expand_lists(words.split(), OPTIONS) == expanded.split()


def test_values_with_a_sign_of_equality_keep_their_commas():
    options = {"--set": ListOption()}
    assert expand_lists(["--set", "kd.temperature=2,4"], options) == ["--set", "kd.temperature=2,4"]


def test_parsing_does_not_depend_on_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = expand_lists(["--losses", "ce", "kd", "--temperature", "2", "1"], OPTIONS)
    for name in ("kd", "ce", "1"):
        (tmp_path / name).touch()
    assert expand_lists(["--losses", "ce", "kd", "--temperature", "2", "1"], OPTIONS) == before


def test_names_with_spaces_get_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(KdvizError, match=r"^kd: no such file; did you mean --losses ce,kd\?$"):
        refuse_spaced_words(["net.pt", "--losses", "ce", "kd"], OPTIONS)
    (tmp_path / "kd").touch()
    for words in ("net.pt --losses ce kd", "--losses ce gone.pt", "--losses ce runs/gone", "--temperature 2 kd"):
        refuse_spaced_words(words.split(), OPTIONS)


def test_commands_say_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, said in (
        ("surface --losses ce kd", "did you mean --losses ce,kd?"),
        ("surface --loss ce kd pld", "did you mean --losses ce,kd?"),
        ("plot a.nc --format pdf png", "did you mean --format pdf,png?"),
        ("histogram a.pt --style values ranks", "did you mean --style values,ranks?"),
        ("paper --format png rkkdd", "unknown paper 'rkkdd'"),  # takes names, not files
    ):
        monkeypatch.setattr(sys, "argv", ["kdviz", *words.split()])
        with pytest.raises(SystemExit) as caught:
            main()
        output = capsys.readouterr()
        assert caught.value.code == 1, words
        assert said in output.err
        assert output.err.count("\n") == 1
