"""Times as a reader has them."""


def duration(seconds: float) -> str:
    """A time in its two largest units, without the seconds from ten minutes on.

    >>> [duration(one) for one in (42.4, 150, 725, 7000, 200000)]
    ['42 s', '2 min 30 s', '12 min', '1 h 56 min', '2 d 7 h']
    """
    whole = round(seconds)
    if whole >= 600:
        whole -= whole % 60
    units = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
    first = next((at for at, (_, size) in enumerate(units) if whole >= size), len(units) - 1)
    parts = []
    for name, size in units[first : first + 2]:
        count, whole = divmod(whole, size)
        parts += [f"{count} {name}"] if count or not parts else []
    return " ".join(parts)
