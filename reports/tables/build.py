"""Tables of both papers at small scale, each by its command, and one page of what agrees.

    python reports/tables/build.py              (everything, two runs at a time; some hours on two cores)
    python reports/tables/build.py --page       (only write README.md, from the tables that are here)
    python reports/tables/build.py rkkd_tab2    (only these tables, and the page; claims: the claims alone)

Runs that are finished, here or as a record in records/, are not trained again, so that several machines can share the
work. Nets are small, glyphs100 and glyphboxes are synthetic: a replication of the papers' questions, not of their
results. The tables of detectors need torchvision (the extra `detection`), or KDVIZ_TORCHVISION_FALLBACK=1 where its
operators do not load.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
PAIR = "resnet20 > resnet8"
TAUGHT: dict[str, tuple[str, ...]] = {"teacher": ("resnet20=checkpoints/resnet20_teacher.pt",)}
LOGIT_ROWS = ("Teacher", "Student", "KD", "KD+RKKD", "CTKD", "CTKD+RKKD", "DKD", "DKD+RKKD", "MLKD", "MLKD+RKKD")
# (paper, table) -> options; in the order in which they are run.
TABLES: dict[tuple[str, str], dict[str, tuple[str, ...]]] = {
    ("rkkd", "tab2"): {**TAUGHT, "column": (PAIR,), "row": LOGIT_ROWS},
    ("rkkd", "tab8"): {**TAUGHT, "column": (PAIR,)},
    ("rkkd", "tab7"): {**TAUGHT, "column": (PAIR,)},
    ("rkkd", "tab6"): {**TAUGHT, "column": ("similar structure",)},
    ("rkkd", "fig4"): {**TAUGHT, "column": (PAIR,)},
    ("pld", "tab6"): TAUGHT,
    ("pld", "tab8"): {**TAUGHT, "column": ("0", "0.1", "0.3", "0.5", "0.9")},
    ("rkkd", "tab9"): TAUGHT,
    ("pld", "tab1"): {**TAUGHT, "column": (PAIR,)},
    ("rkkd", "tab10"): TAUGHT,
    ("rkkd", "tab5"): {},  # of detectors, as the next; their teacher is trained first
    ("pld", "tab7"): {},
}


# (paper, table, rows) whose runs of five seeds the sentences about landscapes are tested on; the first row is the base.
CLAIMED = (("rkkd", "tab2", ("KD", "KD+RKKD")), ("pld", "tab1", ("KD", "PLD")))
CLAIMS = ("flatter", "fewer-minima", "closer", "calibrated")


def command(paper: str, table: str, workers: int) -> list[str]:
    """The `kdviz table` words of one table."""
    return _table(paper, table, TABLES[paper, table], 3, workers)


def _table(paper: str, table: str, options: dict[str, tuple[str, ...]], seeds: int, workers: int) -> list[str]:
    words = ["kdviz", "table", paper, table, "--scale", "small", "--seeds", str(seeds)]
    for option, values in options.items():
        words += [word for value in values for word in (f"--{option}", value)]
    return [*words, "--workers", str(workers)]


def claims(workers: int) -> None:
    """Five seeds of the methods, with their weights (records hold none), and the sentences tested on these students."""
    runs: dict[str, None] = {}
    for paper, table, rows in CLAIMED:
        place = Path("runs/tables") / f"claims_{paper}_{table}"
        words = _table(paper, table, {**TAUGHT, "column": (PAIR,), "row": rows}, 5, workers)
        with tempfile.TemporaryDirectory() as empty:
            run([*words, "--records", empty, "-o", str(place)])
        manifest = json.loads((place / "manifest.json").read_text())
        runs |= dict.fromkeys(f"runs/tables/{one['id']}" for one in manifest["runs"])
    words = ["kdviz", "compare", *runs, *(word for claim in CLAIMS for word in ("--claim", claim))]
    words += ["--teacher", "checkpoints/resnet20_teacher.pt", "--steps", "11", "--planes", "2"]
    run([*words, "-o", str(HERE / "claims"), "--overwrite"])  # runs that were trained again have other files


def run(words: list[str]) -> None:
    """Run one of kdviz's commands and wait for it."""
    subprocess.run([sys.executable, "-m", *words], check=True)


def page() -> str:
    """README.md: what is measured, and every claim beside it."""
    from kdviz.papers import PAPERS, Inputs, findings

    lines = [
        "# Tables at small scale",
        "",
        "`python reports/tables/build.py` makes every table of this folder: small nets on **glyphs100 (synthetic)**,",
        "five epochs, three seeds; in RKKD's Table 5 and PLD's Table 7 detectors on 300 images of **glyphboxes",
        "(synthetic)**, four epochs, three seeds. It asks the papers' questions of nets that two cores train; the",
        "answers are of short runs on small nets and are not the papers' results. `kdviz paper PAPER NAME` prints the",
        "same beside the printed numbers.",
        "",
        "A claim is *yes* here where every comparison of its reading has a 95 % interval over the seeds (Student's t)",
        "above 0, *no* where one has its interval below 0, and *not told apart* where the noise hides it. With three",
        "seeds the interval reaches 2.5 standard deviations of the paired differences to each side.",
        "",
        "| table | claim | printed | measured here | numbers |",
        "|---|---|---|---|---|",
    ]
    missing = []
    for paper, name in TABLES:
        folder = HERE / f"{paper}_{name}_small"
        if not (folder / "table.nc").is_file():
            missing.append(f"{paper} {name}")
            continue
        runs = sum(run["finished"] for run in json.loads((folder / "manifest.json").read_text())["runs"])
        entry = PAPERS[paper].entries[name]
        for one in findings(entry, entry.results(Inputs(tables=HERE))):
            shown = {key: value for key, value in one["measured"].items() if "measured" in key or name == "fig4"}
            numbers = "; ".join(f"{key.removeprefix('measured ')} {value}" for key, value in shown.items())
            verdict = one["measured_agrees"] or "not measured"
            says = f"[{paper} {name}]({folder.name}/table.md), {runs} runs"
            lines.append(f"| {says} | {one['claim']} | {one['agrees']} | {verdict} | {numbers} |")
    lines += ["", f"Not measured yet: {', '.join(missing)}." if missing else "Every table of the list is here."]
    lines += tested_claims()
    lines += ["", "## Commands", "", "```sh"]
    manifests = [HERE / f"{paper}_{name}_small" / "manifest.json" for paper, name in TABLES]
    lines += [json.loads(path.read_text())["command"] for path in manifests if path.is_file()]
    return "\n".join([*lines, "```"]) + "\n"


def tested_claims() -> list[str]:
    """The page's part on the sentences that `claims` tested, where they were."""
    from kdviz.analysis.claims import rows, sentences
    from kdviz.base.files import read_dataset

    file = HERE / "claims" / "claims.nc"
    if not file.is_file():
        return []
    found = read_dataset(file)
    head, *body = [f"| {' | '.join(cells)} |" for cells in rows(found)]
    return [
        "",
        "## The papers' sentences about these students",
        "",
        "Five runs of each method, two random planes on each of two draws of 250 images, exact permutation tests over",
        "the runs ([figure](claims/claims.pdf)). `python reports/tables/build.py claims` trains the runs that are left",
        "and tests them.",
        "",
        *(f"- {line}." for line in sentences(found)),
        "",
        head,
        "|---" * len(rows(found)[0]) + "|",
        *body,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", help="rkkd_tab2, ... [default: all]")
    parser.add_argument("--page", action="store_true", help="only write README.md")
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    os.chdir(HERE.parent.parent)
    for paper, name in TABLES:
        if not options.page and (not options.tables or f"{paper}_{name}" in options.tables):
            run(command(paper, name, options.workers))
    if not options.page and (not options.tables or "claims" in options.tables):
        claims(options.workers)
    (HERE / "README.md").write_text(page())


if __name__ == "__main__":
    main()
