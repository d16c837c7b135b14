"""A table of runs as text: terminal, Markdown, LaTeX and CSV, and the manifest that repeats it."""

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.files import atomic, versions, write_dataset
from kdviz.base.latex import escape
from kdviz.tables.collect import drawn, of_detectors, title
from kdviz.tables.job import digest_of
from kdviz.tables.plan import Plan
from kdviz.tables.records import record

if TYPE_CHECKING:
    import xarray as xr

DASH = "–"
NOISE = "~"
FIELDS = ("published", "measured", "std", "best", "best_std", "runs", "gain", "low", "high", "t_low", "t_high")
FIELDS = (*FIELDS, "improvement", "clear", "images")


def legend(result: "xr.Dataset", *, mark: str = f"marked {NOISE} (grey)") -> list[str]:
    """What the numbers are, in sentences, for every output; `mark` says how it shows a gain inside the noise."""
    level = f"{100 * float(result.attrs['level']):.0f} %"
    seeds = f"{result.sizes['seed']} seed{'s' * (result.sizes['seed'] != 1)}"
    beside = "; in brackets what the paper prints" if result.attrs["source"] else ""
    why = " Test images are not drawn: average precision is no mean over them." if of_detectors(result) else ""
    found = [
        f"{result.attrs['metric']}; mean ± standard deviation of the last epoch over {seeds}, test split{beside}.",
        f"A gain {mark} is inside the noise: its {level} interval, by bootstrap over {drawn(result)} or by Student's t"
        f" over seeds, holds 0, or it was measured under one seed.{why}",
        f"{DASH} is a cell that was not trained; commands.sh has its command, where kdviz has one.",
    ]
    return [*([result.attrs["note"]] if result.attrs["note"] else []), *found]


class Text:
    """One cell in parts.

    Attributes:
        value: "74.62 ± 0.21", or a dash.
        printed: "74.74", or "".
        noise: whether its gain over the base row is inside the noise.
    """

    def __init__(self, at: "xr.Dataset", has_base: bool) -> None:
        mean, std, printed = (float(at[name]) for name in ("measured", "std", "published"))
        spread = f" ± {std:.2f}" if np.isfinite(std) else ""
        self.value = f"{mean:.2f}{spread}" if np.isfinite(mean) else DASH
        self.printed = f"{printed:.2f}" if np.isfinite(printed) else ""
        self.noise = has_base and np.isfinite(float(at["gain"])) and not int(at["clear"])

    @property
    def plain(self) -> str:
        """The cell without any markup."""
        mark = NOISE if self.noise else ""
        return f"{self.value}{mark}" + (f" ({self.printed})" if self.printed else "")


def cells(result: "xr.Dataset") -> list[list[Text]]:
    """The table's cells, row by row."""
    return [
        [Text(result.isel(row=i, column=j), bool(str(result["base"].values[i]))) for j in range(result.sizes["column"])]
        for i in range(result.sizes["row"])
    ]


def gains(result: "xr.Dataset") -> list[str]:
    """One line per measured gain: points, interval, probability of improvement, and whether it is inside the noise."""
    lines = []
    for row in result["row"].values:
        base = str(result["base"].sel(row=row).values)
        at = result.sel(row=row)
        for column in result["column"].values if base else ():
            one = at.sel(column=column)
            if not np.isfinite(float(one["gain"])):
                continue
            lines.append(f"{row} against {base}, {column}: {_gain(one)}")
        if base and result.sizes["column"] > 1 and np.isfinite(float(at["mean_gain"])):
            bounds = f" [{float(at['mean_low']):+.2f}, {float(at['mean_high']):+.2f}]"
            known = np.isfinite(float(at["mean_low"]))
            lines.append(
                f"{row} against {base}, mean of columns: {float(at['mean_gain']):+.2f}{bounds if known else ''}"
            )
    return lines


def unfinished(result: "xr.Dataset", *, shown: int = 5) -> list[str]:
    """One line for each of the first cells that lack runs, with the command of the next one."""
    lines = []
    for row in result["row"].values:
        for column in result["column"].values:
            one = result.sel(row=row, column=column)
            command = str(one["command"].values)
            if command:
                lines.append(f"{DASH} {row}, {column}: {int(one['runs'])} seeds finished; the next run: {command}")
    rest = [f"{len(lines) - shown} more cells lack runs; commands.sh has every command"] if len(lines) > shown else []
    return [*lines[:shown], *rest]


def _gain(one: "xr.Dataset") -> str:
    gain, low, high, chance = (float(one[name]) for name in ("gain", "low", "high", "improvement"))
    t_low, t_high = float(one["t_low"]), float(one["t_high"])
    text = f"{gain:+.2f}"
    if np.isfinite(low):
        drawn = "seeds and images" if int(one["images"]) and np.isfinite(t_low) else "images"
        text += f" [{low:+.2f}, {high:+.2f}] over {drawn if int(one['images']) else 'seeds'}"
    if np.isfinite(t_low):
        text += f", [{t_low:+.2f}, {t_high:+.2f}] by t, P(improvement) {chance:.2f}"
    else:
        text += "; one seed, so the spread between runs is not known"
    return text + ("" if int(one["clear"]) else "; inside the noise")


def terminal(result: "xr.Dataset", *, grey: Callable[[str], str] = str) -> str:
    """The table in aligned columns, its gains and its legend; `grey` marks the cells whose gain is inside the noise."""
    heads = [str(name).split(" > ") for name in result["column"].values]
    depth = max(map(len, heads))
    lines = [["", *(head[level] if level < len(head) else "" for head in heads)] for level in range(depth)]
    lines[0][0] = result.attrs.get("axis", "")
    body = cells(result)
    names = [str(name) for name in result["row"].values]
    lines += [[name, *(text.plain for text in line)] for name, line in zip(names, body, strict=True)]
    noise = [[False] * len(lines[0])] * depth + [[False, *(text.noise for text in line)] for line in body]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = []
    for line, marks in zip(lines, noise, strict=True):
        padded = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        aligned.append(
            "  ".join(grey(text) if mark else text for text, mark in zip(padded, marks, strict=True)).rstrip()
        )
    return "\n".join([title(result), *aligned, "", *gains(result), "", *unfinished(result), *legend(result)])


def markdown(result: "xr.Dataset") -> str:
    """A GitHub table; gains inside the noise in italics, because its pages show no colours."""

    def safe(text: str) -> str:
        return text.replace("|", "\\|").replace("<", "&lt;")

    names = [safe(str(name)) for name in result["column"].values]
    head = f"| {result.attrs.get('axis', '')}".rstrip()
    lines = [f"**{safe(title(result))}**", "", f"{head} | {' | '.join(names)} |", f"|---|{'---|' * len(names)}"]
    for name, line in zip(result["row"].values, cells(result), strict=True):
        texts = [f"*{text.plain}*" if text.noise else text.plain for text in line]
        lines.append(f"| {safe(str(name))} | {' | '.join(texts)} |")
    lines += ["", *(f"- {safe(one)}" for one in gains(result))]
    lines += ["", *(f"- {safe(one)}" for one in unfinished(result))]
    return "\n".join([*lines, "", *(f"{safe(one)}\n" for one in legend(result))])


def latex(result: "xr.Dataset") -> str:
    r"""A table environment; needs \usepackage{booktabs,xcolor}. Gains inside the noise are grey."""
    names = [escape(str(name)).replace(r"\textgreater{}", r"$\to$") for name in result["column"].values]
    lines = [
        r"% needs \usepackage{booktabs,xcolor}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_words(title(result))}. {_words(' '.join(legend(result, mark='in grey')))}}}",
        rf"\label{{tab:{result.attrs['name'].replace('_', '-')}}}",
        r"\medskip",
        rf"\begin{{tabular}}{{l{'c' * len(names)}}}",
        r"\toprule",
        f"{escape(result.attrs.get('axis', ''))} & {' & '.join(names)} \\\\",
        r"\midrule",
    ]
    for name, line in zip(result["row"].values, cells(result), strict=True):
        lines.append(f"{escape(str(name))} & {' & '.join(map(_latex, line))} \\\\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}", ""])


def _words(text: str) -> str:
    return escape(text).replace("±", r"$\pm$")


def _latex(text: Text) -> str:
    value = text.value.replace(" ± ", r"\,$\pm$\,").replace(DASH, "--")
    value = rf"\textcolor{{gray}}{{{value}}}" if text.noise else value
    return f"{value} ({text.printed})" if text.printed else value


def as_csv(result: "xr.Dataset") -> str:
    """One line per cell: row, column, base, every number, and the accuracy of each seed."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    seeds = [int(seed) for seed in result["seed"].values]
    writer.writerow(["row", "column", "base", *FIELDS, *(f"seed_{seed}" for seed in seeds), "scale", "command"])
    for row in result["row"].values:
        for column in result["column"].values:
            one = result.sel(row=row, column=column)
            numbers = [_number(float(one[name])) for name in FIELDS]
            own = [_number(float(value)) for value in one["last_by_seed"].values]
            writer.writerow(
                [
                    row,
                    column,
                    str(one["base"].values),
                    *numbers,
                    *own,
                    result.attrs["scale"],
                    str(one["command"].values),
                ]
            )
    return stream.getvalue()


def _number(value: float) -> str:
    return "" if not np.isfinite(value) else f"{value:.6g}"


def missing(plan: Plan) -> list[str]:
    """Every cell that is not whole, with the commands that would make it so; the table's dashes."""
    lines, shown = [], set()
    for (row, column), jobs in plan.cells.items():
        cell = plan.declaration.cells[row, column]
        if not cell.trainable:
            lines.append(f"# {row}, {column}: kdviz has no method, net or recipe for it")
            continue
        if cell.method == "teacher" and not jobs:
            continue  # a given checkpoint
        left = [job for job in jobs if job.id not in plan.finished]
        if left:
            lines.append(f"# {row}, {column}: {len(jobs) - len(left)} of {len(jobs)} runs are finished")
        for job in left:
            if job.after and job.after.id not in plan.finished and job.after.id not in shown:
                shown.add(job.after.id)
                lines += ["# its teacher", job.after.command]
            if job.id not in shown:
                shown.add(job.id)
                lines.append(job.command)
    return lines


def manifest(plan: Plan, command: str) -> dict[str, Any]:
    """All that repeats the table: the command, every run's command, recipe and sha256, versions of the libraries."""
    return {
        "table": plan.declaration.name,
        "scale": plan.declaration.scale,
        "note": plan.declaration.note,
        "command": command,
        "versions": versions(),
        "runs": [_run(plan, name) for name in plan.jobs],
        "given_teachers": _files(plan.given),
        "given_backbones": _files(plan.backbones),
        "unmatched": dict(plan.other),
    }


def _files(given: Mapping[str, Path]) -> dict[str, dict[str, str]]:
    return {net: {"path": str(path), "sha256": digest_of(path)} for net, path in given.items()}


def _run(plan: Plan, name: str) -> dict[str, Any]:
    job = plan.jobs[name]
    found: dict[str, Any] = {"id": name, "finished": name in plan.finished, "command": job.command}
    found["recipe"] = job.recipe.model_dump(mode="json")
    if name in plan.finished:
        outcome = plan.outcomes[name]
        metrics = {which: dict(sorted(measured.items())) for which, measured in sorted(outcome.metrics.items())}
        found |= {"metrics": metrics, "sha256": outcome.sha256}
        found |= {"data_sha256": outcome.facts.get("data_sha256"), "teacher_sha256": outcome.facts.get("teacher")}
    return found


def write(plan: Plan, result: "xr.Dataset", folder: Path, *, command: str) -> list[Path]:
    """Write every form of the table into `folder`; the files.

    Args:
        plan, result: the table, and what `collect` made of it.
        folder: gets table.txt, .md, .tex, .csv, .nc, manifest.json and commands.sh.
        command: that made it.
    """
    texts: Mapping[str, str] = {
        "table.txt": terminal(result) + "\n",
        "table.md": markdown(result),
        "table.tex": latex(result),
        "table.csv": as_csv(result),
        "manifest.json": json.dumps(manifest(plan, command), indent=1) + "\n",
        "commands.sh": script(missing(plan)),
    }
    for name, text in texts.items():
        with atomic(folder / name) as partial:
            partial.write_text(text, encoding="utf-8")
    return [*(folder / name for name in texts), write_dataset(result, folder / "table.nc")]


def keep_records(plan: Plan, folder: Path) -> None:
    """A record of every finished run, RUN.npz in `folder`; those that are there already are left as they are."""
    for name, outcome in plan.outcomes.items():
        path = folder / f"{name}.npz"
        if not path.is_file():
            record(outcome, path)


def script(lines: Sequence[str]) -> str:
    """A shell script of the commands."""
    return "\n".join(["# What the table still lacks; nothing follows where it is whole.", *lines]) + "\n"
