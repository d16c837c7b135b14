"""Names in files of other files: a file never leads outside its own folder or the working folder."""

from pathlib import Path

from kdviz.base.check import KdvizError

FOLDER = "folder:"


def inside(path: str | Path, *folders: Path) -> bool:
    """Whether `path`, its links followed, lies in one of the folders.

    >>> inside("a/../b", Path()), inside("../b", Path())
    (True, False)
    """
    try:
        found = Path(path).resolve()
        return any(found.is_relative_to(folder.resolve()) for folder in folders)
    except (OSError, ValueError, RuntimeError):  # too long, a NUL byte, a circle of links
        return False


def data_name(name: str, file: Path) -> str:
    """The data set that `file` names, as `load_data` takes it.

    Raises: KdvizError for a folder elsewhere, which only the user may name.

    >>> data_name("cifar100", Path("best.pt"))
    'cifar100'
    """
    place = name.removeprefix(FOLDER)
    if name.startswith(FOLDER) and not inside(place, Path(), file.parent):
        raise KdvizError(
            f"{file}: names its data {name!r}, and a file never leads outside its own folder or the working folder;"
            f" if you trust that folder, name it yourself: --data {name}"
        )
    return name
