"""Options that take several values: by repetition, by commas, and numbers also with spaces between them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from kdviz.base.check import KdvizError


@dataclass(frozen=True)
class ListOption:
    """What is known of a repeatable option.

    Attributes:
        numbers: whether its values are numbers, so that further numbers after it belong to it.
        commas: whether a comma separates two values; not where a value has commas of its own.
    """

    numbers: bool = False
    commas: bool = True


def expand_lists(args: Sequence[str], options: Mapping[str, ListOption]) -> list[str]:
    """The command line with one value after each repeatable option; it depends on the words alone.

    Args:
        args: the words after the command's name.
        options: the repeatable ones, by each of their names ("--losses").

    >>> number, name = ListOption(numbers=True), ListOption()
    >>> expand_lists(["--temperature", "2,1", ".5", "run.pt"], {"--temperature": number})
    ['--temperature', '2', '--temperature', '1', '--temperature', '.5', 'run.pt']
    >>> expand_lists(["--losses=ce,kd", "--set", "kd.temperature=2,4"], {"--losses": name, "--set": name})
    ['--losses', 'ce', '--losses', 'kd', '--set', 'kd.temperature=2,4']
    """
    expanded: list[str] = []
    for option, words in _grouped(args, options):
        if option is None:
            expanded += words
            continue
        values = [value for word in words for value in _values(word, options[option])]
        expanded += [part for value in values for part in (option, value)] or [option]
    return expanded


def refuse_spaced_words(args: Sequence[str], options: Mapping[str, ListOption]) -> None:
    """Refuse `--losses ce kd` where there is no file kd: names are listed with commas. For commands that take files.

    Raises: KdvizError that shows the words with commas.
    """
    follows: tuple[str, str] | None = None  # the option whose value the next word comes after, and that value
    for option, words in _grouped(args, options):
        if option is not None:
            names = not options[option].numbers and len(words) == 1 and "=" not in words[0]
            follows = (option, words[0]) if names else None
            continue
        (word,) = words
        named = not any(sign in word for sign in "/@") and not word.startswith("-") and not Path(word).suffix
        if follows and named and not Path(word).exists():
            raise KdvizError(f"{word}: no such file; did you mean {follows[0]} {follows[1]},{word}?")
        follows = None


def _grouped(args: Sequence[str], options: Mapping[str, ListOption]) -> Iterator[tuple[str | None, list[str]]]:
    """(repeatable option, its words) and (None, [any other word]), in order."""
    at = 0
    while at < len(args):
        name, equals, value = args[at].partition("=")
        at += 1
        if name not in options:
            yield None, [args[at - 1]]
            continue
        words = [value] if equals else list(args[at : at + 1])
        at += 0 if equals else 1
        while options[name].numbers and at < len(args) and _is_number(args[at].rstrip(",").split(",")[0]):
            words.append(args[at])
            at += 1
        yield name, words


def _values(word: str, option: ListOption) -> list[str]:
    if not option.commas or "=" in word:
        return [word]
    return [part.strip() for part in word.split(",") if part.strip()] or [word]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
