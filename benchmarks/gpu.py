"""Everything that needs a GPU, in one command: the tests marked gpu, then the benchmarks; one report.

    make gpu            (or python benchmarks/gpu.py [--quick])

Writes reports/gpu/report.json and report.md: card, driver, torch, each command with its outcome and its output. Commit
both. Without a GPU it says so and writes nothing.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from datetime import date
from pathlib import Path

import torch

ROOT = Path(__file__).parent.parent
OUT = ROOT / "reports" / "gpu"
COMMANDS = (
    ("tests marked gpu", ["-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]),
    ("KD step beside the loop that the field copies", ["benchmarks/train.py", "--device", "cuda", "--steps", "2000"]),
    ("one whole short run", ["-m", "kdviz", "train", "glyphs100", "--device", "cuda", "--fresh", "-o", "runs/gpu/ce"]),
    ("landscape", ["benchmarks/landscape.py"]),
    ("ranking loss and PLD", ["benchmarks/losses.py"]),
    ("Kendall's tau", ["benchmarks/kendall.py"]),
)


def driver() -> str:
    """The NVIDIA driver's version, or why it is not known."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.splitlines()[0].strip()
    except (OSError, subprocess.CalledProcessError, IndexError):
        return "unknown (nvidia-smi did not answer)"


def ran(title: str, words: list[str]) -> dict:
    """Run one command with this Python; what it printed, its exit status and its time."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT)
    output = (done.stdout + ("\n" + done.stderr if done.returncode else "")).strip()
    print(f"{title}: exit status {done.returncode}, {time.perf_counter() - began:.0f} s", flush=True)
    return {
        "title": title,
        "command": " ".join(["python", *words]),
        "exit": done.returncode,
        "seconds": round(time.perf_counter() - began, 1),
        "output": output.splitlines()[-60:],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="only the tests")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("no CUDA device is visible to torch; nothing was run")
    report = {
        "date": date.today().isoformat(),
        "card": torch.cuda.get_device_name(),
        "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1),
        "driver": driver(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "results": [ran(*each) for each in COMMANDS[: 1 if options.quick else None]],
    }
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    lines = ["# Run on a GPU", "", f"`make gpu`, {report['date']}: {report['card']} ({report['memory_gib']} GiB),"]
    lines += [
        f"driver {report['driver']}, torch {report['torch']} (CUDA {report['cuda']}), Python {report['python']}.",
        "",
    ]
    for result in report["results"]:
        outcome = "passed" if result["exit"] == 0 else f"FAILED (exit status {result['exit']})"
        lines += [f"## {result['title']}: {outcome}, {result['seconds']:.0f} s", "", f"`{result['command']}`", ""]
        lines += ["```", *result["output"], "```", ""]
    (OUT / "report.md").write_text("\n".join(lines))
    sys.exit(any(result["exit"] for result in report["results"]))


if __name__ == "__main__":
    main()
