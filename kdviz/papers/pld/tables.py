"""PLD's accuracy tables: what the paper says of them, read from its own numbers."""

from kdviz.papers.entry import Claim
from kdviz.papers.gains import above, best, peak
from kdviz.papers.published import declare

_PAIRS = (("KD", "PLD"), ("DIST", "PLD"))
_IN_ALL = "cells in which PLD is higher"

CLAIMS = {
    "tab1": (
        Claim("consistent gains over KD and DIST", "abstract", _IN_ALL, above(*_PAIRS)),
        Claim(
            "consistent gains over decoupled and feature-based distillation too",
            "abstract",
            _IN_ALL,
            above(*((name, "PLD") for name in ("AT", "FitNet", "PKT", "RKD", "SP", "VID", "DKD"))),
        ),
    ),
    "tab2": (Claim("consistent gains in pairs of one family", "abstract, Fig. 2a", _IN_ALL, above(*_PAIRS)),),
    "tab3": (Claim("consistent gains over teachers of other families", "abstract, Fig. 2b", _IN_ALL, above(*_PAIRS)),),
    "tab4": (
        Claim(
            "the gain over KD and DIST stays under longer training", "Fig. 1b", _IN_ALL, above(*_PAIRS, ("CE", "PLD"))
        ),
    ),
    "tab6": (
        Claim(
            "temperature 1 is the best, and PLD is above the list-wise losses that it contains",
            "Table 6",
            "highest printed value",
            best(
                ("PLD T 0.5", "PLD T 1", "PLD T 1.5", "PLD T 2", "PLD T 4", "ListMLE", "P-ListMLE"), expected="PLD T 1"
            ),
        ),
    ),
    "tab7": (Claim("the gains extend to dense prediction", "abstract", _IN_ALL, above(("DKD", "PLD"))),),
    "tab8": (
        Claim(
            "KD and DIST both do best with a cross-entropy weight near .1 and lose with more",
            "Fig. 1a",
            "column of the highest printed value",
            peak(("KD", "DIST"), expected="0.1"),
        ),
    ),
}

ENTRIES = declare("pld", "arXiv 2506.12542", CLAIMS)
