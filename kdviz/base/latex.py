"""Plain text as LaTeX, and captions to be \\input beside their figures."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "τ": r"$\tau$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "γ": r"$\gamma$",
    "×": r"$\times$",
    "≥": r"$\geq$",
    "≤": r"$\leq$",
    "−": "--",
    "–": "--",
    "…": r"\ldots{}",
    "²": "$^2$",
}


def escape(text: str) -> str:
    """`text` with everything that LaTeX reads as a command made harmless; other characters stay.

    >>> print(escape("50% of a_b & {c}"))
    50\\% of a\\_b \\& \\{c\\}
    """
    return "".join(_LATEX.get(letter, letter) for letter in " ".join(text.split()))


def caption_tex(text: str, label: str, *, cite: str = "") -> str:
    """The lines of a caption file: \\caption and \\label, to be \\input inside a figure environment.

    >>> print(caption_tex("Losses of a_b.", "landscape-a b"))
    \\caption{Losses of a\\_b.}
    \\label{fig:landscape-a-b}
    <BLANKLINE>
    """
    body = escape(text) + (f" \\cite{{{cite}}}" if cite else "")
    name = "".join(letter if letter.isascii() and (letter.isalnum() or letter in "+.-") else "-" for letter in label)
    return f"\\caption{{{body}}}\n\\label{{fig:{name}}}\n"
