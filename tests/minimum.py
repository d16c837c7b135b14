"""The lowest versions that pyproject.toml allows, as a file of constraints; `make minimum` runs it.

torch is left out: its old builds are several gigabytes, so the newest is taken.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def lowest(requirements: list[str]) -> list[str]:
    """The requirements that name a lowest version, pinned to it.

    >>> lowest(["numpy>=1.26", "torch>=2.6", "seaborn[stats]>=0.13,<1", "loss-landscapes==3.0.6"])
    ['numpy==1.26', 'seaborn==0.13']
    """
    found = (re.match(r"([\w-]+)(?:\[[\w,]+\])?>=([\w.]+)", one) for one in requirements)
    return [f"{match[1]}=={match[2]}" for match in found if match and match[1] != "torch"]


if __name__ == "__main__":
    sys.stdout.write("\n".join(lowest([*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])) + "\n")
