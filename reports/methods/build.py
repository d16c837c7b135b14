"""Every method of kdviz, trained by its command on small nets: a table of means and spreads.

    python reports/methods/build.py             (glyphs100, synthetic: seeds 0, 1, 2; fashion-mnist, real: seed 0)
    python reports/methods/build.py --table     (only write the tables, from the runs that are finished)

Each run is one `kdviz train` command, resumable, and is left alone once it has ended or stands in DATA.json here, so
that several machines can share the work (delete a row of the file to run it again). The teacher is the shipped
ResNet-20 of glyphs100, of fashion-mnist one trained here. A replication at a small scale, not the papers' results.
"""

import argparse
import functools
import json
import os
import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).parent
RUNS = Path("runs/methods")
SEEDS = {"glyphs100": (0, 1, 2), "fashion-mnist": (0,)}
KINDS = {"glyphs100": "synthetic", "fashion-mnist": "real"}
SUMS = ("kd+rk", "dkd+rk", "kd+diff_kendall")  # plug-ins, which stand on another method
PLUG_INS = ("rk", "diff_kendall")
SHIPPED = ("ce", "kd", "kd+rk", "dist", "pld")


def methods() -> list[str]:
    """Every method that stands alone, then the sums."""
    from kdviz.methods import METHODS

    alone = [name for name, method in METHODS.items() if name not in PLUG_INS and "boxes" not in method.needs]
    return [*sorted(alone), *SUMS]


def folder(data: str, method: str, seed: int) -> Path:
    """Where a run is written."""
    return RUNS / data / f"{method}_seed{seed}"


def teacher(data: str) -> Path:
    """The teacher's checkpoint."""
    return Path("checkpoints/resnet20_teacher.pt") if data == "glyphs100" else RUNS / data / "teacher" / "last.pt"


def command(data: str, method: str, seed: int) -> list[str]:
    """The `kdviz train` words of one run."""
    words = ["kdviz", "train", data, "--method", method, "--seed", str(seed), "-o", str(folder(data, method, seed))]
    if method == "ce":
        return words
    return [*words, "--teacher", str(teacher(data)), "--teacher-cache", str(RUNS / "teacher")]


def run(words: list[str]) -> None:
    """Run one command on one thread, its output beside its results."""
    where = Path(words[words.index("-o") + 1])
    where.mkdir(parents=True, exist_ok=True)
    with (where / "log.txt").open("a") as log:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run([sys.executable, "-m", *words], stdout=log, stderr=log, env=environment)
    print(where, "done" if done.returncode == 0 else f"FAILED, see {where / 'log.txt'}", flush=True)  # noqa: T201


def outcome(data: str, method: str, seed: int) -> dict | None:
    """Test top-1 (per cent, last epoch) and precision of a run: from its folder, else as recorded; None: not yet."""
    from kdviz.checkpoints import RunFolder

    held = RunFolder(folder(data, method, seed))
    metrics = held.result()
    if metrics is None:
        return recorded(data).get((method, seed))
    return {"top1": 100 * metrics["last"]["top1"], "precision": held.events("start")[-1]["precision"]}


@functools.cache
def recorded(data: str) -> dict[tuple[str, int], dict]:
    """Outcomes of the runs that DATA.json holds."""
    path = HERE / f"{data}.json"
    table = json.loads(path.read_text()) if path.is_file() else []
    return {
        (row["method"], seed): {"top1": top1, "precision": precision}
        for row in table
        for seed, top1, precision in zip(row["seeds"], row["top1"], row["precision"], strict=True)
    }


def rows(data: str) -> list[dict]:
    """One row per method with a finished run: mean and standard deviation of the last epoch's test top-1, per cent."""
    from kdviz.methods import METHODS

    found = []
    for method in methods():
        ended = {seed: outcome(data, method, seed) for seed in SEEDS[data]}
        ended = {seed: one for seed, one in ended.items() if one}
        if not ended:
            continue
        tops = [one["top1"] for one in ended.values()]
        found.append(
            {
                "method": method,
                "kind": METHODS[method].kind if method in METHODS else "logit",
                "seeds": list(ended),
                "top1": tops,
                "mean": statistics.fmean(tops),
                "std": statistics.stdev(tops) if len(tops) > 1 else None,
                "precision": [one["precision"] for one in ended.values()],
                "command": shlex.join(command(data, method, min(ended))),
            }
        )
    return found


def write(data: str) -> None:
    """DATA.json and DATA.md: methods by mean, each beside the baselines ce and kd."""
    table = rows(data)
    if not table:
        return
    (HERE / f"{data}.json").write_text(json.dumps(table, indent=2) + "\n")
    by_seed = {row["method"]: dict(zip(row["seeds"], row["top1"], strict=True)) for row in table}
    precisions = ", ".join(sorted({name for row in table for name in row["precision"]}))
    lines = [
        f"# Every method on {data} ({KINDS[data]})",
        "",
        "Top-1 on the test split after the last epoch, per cent, mean ± standard deviation over the seeds given;",
        '"over" is the mean difference under the same seeds.',
        f"Recipe `{data}`, {precisions}; teacher ResNet-20, student ResNet-8.",
        "A small replication, not the papers' results.",
        "`python reports/methods/build.py` runs all of it; a row's command is that of its first seed.",
        "",
        "| method | kind | top-1 | seeds | over ce | over kd | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in sorted(table, key=lambda row: -row["mean"]):
        spread = f" ± {row['std']:.2f}" if row["std"] is not None else ""
        over = [_over(by_seed[row["method"]], by_seed.get(name, {})) for name in ("ce", "kd")]
        cells = [
            row["method"],
            row["kind"],
            f"{row['mean']:.2f}{spread}",
            _list(row["seeds"]),
            *over,
            f"`{row['command']}`",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    (HERE / f"{data}.md").write_text("\n".join(lines) + "\n")


def _list(seeds: list[int]) -> str:
    return ", ".join(map(str, seeds))


def _over(top1: dict[int, float], base: dict[int, float]) -> str:
    gaps = [top1[seed] - base[seed] for seed in top1 if seed in base]
    return f"{statistics.fmean(gaps):+.2f}" if gaps else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", action="store_true", help="only write the tables")
    parser.add_argument("--data", nargs="+", default=list(SEEDS))
    options = parser.parse_args()
    os.chdir(HERE.parent.parent)
    if not options.table:
        train(options.data)
    for data in options.data:
        write(data)


def _turn(run: tuple[str, str, int]) -> int:
    """Which runs come first: what `make checkpoints` ships, then one seed of everything, the fast methods before."""
    from kdviz.methods import METHODS

    data, method, seed = run
    fast = method not in METHODS or (METHODS[method].kind == "logit" and "strong" not in METHODS[method].needs)
    if data == "glyphs100" and method in SHIPPED:
        return 0
    if seed == 0:
        return 1 if data == "glyphs100" else 3
    return 2 if fast else 4


def train(sets: list[str]) -> None:
    """Every run that has not ended, two at a time; see `_turn`."""
    plan = [(data, method, seed) for data in sets for seed in SEEDS[data] for method in methods()]
    if "fashion-mnist" in sets and not teacher("fashion-mnist").is_file():
        run([*command("fashion-mnist", "ce", 0)[:-1], str(teacher("fashion-mnist").parent), "--student", "resnet20"])
    plan.sort(key=_turn)
    left = [command(*one) for one in plan if outcome(*one) is None]
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(run, left))


if __name__ == "__main__":
    main()
