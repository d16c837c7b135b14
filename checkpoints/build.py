"""Train every shipped checkpoint again: one teacher, then students by five methods over three seeds.

    make checkpoints        (or: python checkpoints/build.py --seeds 0 1 2)

Each run is one `kdviz train` command, resumable, and is left alone once it has ended; the commands stand in index.json
beside what they measured. Students share the teacher's logits through one table, and their runs with
reports/methods/build.py, which trains every method. The teacher is trained where its file is not there (or with
--teacher), and the entries of runs that are not in the folder stay as they are. Two runs at a time, one thread each: on
small nets that beats one run with two threads.
"""

import argparse
import json
import os
import shlex
import shutil
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
RUNS = Path("runs/methods")
TEACHER = "resnet20_teacher"
METHODS = ("ce", "kd", "kd+rk", "dist", "pld")


def command(name: str, seed: int, *words: str) -> list[str]:
    """The `kdviz train` words of one run, in the order that reports/methods/build.py has them."""
    folder = RUNS / "glyphs100" / f"{name}_seed{seed}"
    return ["kdviz", "train", "glyphs100", *words[:2], "--seed", str(seed), "-o", str(folder), *words[2:]]


def plan(seeds: list[int]) -> dict[tuple[str, int], list[str]]:
    """(name, seed) -> command, the teacher first."""
    rows = {(TEACHER, 0): command("teacher", 0, "--method", "ce", "--student", "resnet20", "--epochs", "6")}
    teach = ("--teacher", f"checkpoints/{TEACHER}.pt", "--teacher-cache", str(RUNS / "teacher"))
    for seed in seeds:
        for method in METHODS:
            words = ("--method", method) if method == "ce" else ("--method", method, *teach)
            rows[f"resnet8_{method}", seed] = command(method, seed, *words)
    return rows


def folder_of(words: list[str]) -> Path:
    """Where a command puts its run."""
    return Path(words[words.index("-o") + 1])


def run(words: list[str]) -> None:
    """Run one command on one thread, its output beside its results."""
    folder = folder_of(words)
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("a") as log:
        subprocess.run([sys.executable, "-m", *words], check=True, stdout=log, stderr=log, env=environment)
    print(folder, flush=True)  # noqa: T201


def outcome(folder: Path) -> dict | None:
    """The last line of a run's journal: metrics of best and last epoch, sha256 of both files; None if unfinished."""
    path = folder / "journal.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    return next((line for line in reversed(lines) if line["event"] == "end"), None)


def index(rows: dict[tuple[str, int], list[str]]) -> dict:
    """What is shipped and what each finished seed measured; top1: fraction of glyphs100 (synthetic), test.

    Entries without a run in the folder are those of the index as it stands.
    """
    entries: dict[str, dict] = {}
    for (name, seed), words in rows.items():
        folder = folder_of(words)
        end = outcome(folder)
        if end is None:
            continue
        measured = {
            "seed": seed,
            "command": shlex.join(words),
            **{f"top1_{which}": end["metrics"][which]["top1"] for which in ("best", "last")},
            **{f"epoch_{which}": end["metrics"][which]["epoch"] for which in ("best", "last")},
        }
        entry = entries.setdefault(name, {"data": "glyphs100 (synthetic)", "runs": []})
        if not entry["runs"]:  # the first seed's last epoch is the file that is shipped
            entry |= {"file": f"{name}.pt", "which": "last", "sha256": end["sha256"]["last"], "recipe": "glyphs100"}
            shutil.copyfile(folder / "last.pt", HERE / f"{name}.pt")
        entry["runs"].append(measured)
    known = json.loads((HERE / "index.json").read_text()) if (HERE / "index.json").is_file() else {}
    for entry in entries.values():
        tops = [one["top1_last"] for one in entry["runs"]]
        entry["top1_last_mean"] = statistics.fmean(tops)
        entry["top1_last_std"] = statistics.stdev(tops) if len(tops) > 1 else None
    return {**{name: entry for name, entry in known.items() if name not in entries}, **entries}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--teacher", action="store_true", help="train the teacher again, although its file is there")
    parser.add_argument("--index", action="store_true", help="only write index.json from the runs that are finished")
    options = parser.parse_args()
    os.chdir(HERE.parent)
    rows = plan(options.seeds)
    if not options.index:
        kept = (HERE / f"{TEACHER}.pt").is_file() and not options.teacher
        left = {key: words for key, words in rows.items() if outcome(folder_of(words)) is None}
        train({key: words for key, words in left.items() if not (kept and key[0] == TEACHER)})
    (HERE / "index.json").write_text(json.dumps(index(rows), indent=2) + "\n")


def train(rows: dict[tuple[str, int], list[str]]) -> None:
    """Run what needs no teacher, then the rest."""
    alone = {key: words for key, words in rows.items() if "--teacher" not in words}
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(run, alone.values()))
        index(alone)  # puts the teacher where the students look for it
        list(pool.map(run, (words for key, words in rows.items() if key not in alone)))


if __name__ == "__main__":
    main()
