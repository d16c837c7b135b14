"""Name -> entry, filled at import; unknown names get a close match, names are never overwritten."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from kdviz.base.check import KdvizError, unknown

Entry = TypeVar("Entry")


class Registry(Mapping[str, Entry], Generic[Entry]):
    """A read-only mapping for its readers; `add` is called by the modules that own the entries.

    >>> nets = Registry[int]("net")
    >>> nets.add("resnet8", 8)
    8
    >>> nets["resnet9"]
    Traceback (most recent call last):
    kdviz.base.check.KdvizError: unknown net 'resnet9'; did you mean 'resnet8'? known: resnet8
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._entries: dict[str, Entry] = {}
        self._others: list[str] = []

    def accept(self, names: Iterable[str]) -> None:
        """Other names that stand for an entry, or forms of them ("timm:NAME"), which their readers resolve.

        They are listed beside the entries where a name is unknown.
        """
        self._others += names

    def add(self, name: str, entry: Entry) -> Entry:
        """Register entry under name and return it. Raises KdvizError when the name is taken."""
        if name in self._entries:
            raise KdvizError(f"{self.kind} {name!r} is registered already")
        self._entries[name] = entry
        return entry

    def register(self, name: str) -> Callable[[Entry], Entry]:
        """The decorator form of `add`."""
        return lambda entry: self.add(name, entry)

    def __getitem__(self, name: str) -> Entry:
        try:
            return self._entries[name]
        except (KeyError, TypeError):
            raise unknown(self.kind, name, [*self._entries, *self._others]) from None

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def get(self, name: str, default: Any = None) -> Any:  # Mapping.get waits for a KeyError; ours is another
        return self._entries.get(name, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
