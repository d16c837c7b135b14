"""The options that `kdviz landscape`, `kdviz path` and `kdviz compare` share."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kdviz.base.check import require
from kdviz.cli import completion
from kdviz.cli.adaptation import with_remarks
from kdviz.cli.common import pairs
from kdviz.cli.options import OUTPUT, NetOptions
from kdviz.cli.requests import Request, name_with_code

if TYPE_CHECKING:
    from kdviz.analysis.landscape.nets import Nets
    from kdviz.analysis.landscape.options import Grid, Measurement
    from kdviz.data import BoxData, Data

IMAGES = 250  # with 21 x 21 points, what a small net does in half a minute on two cores
IMAGES_WITH_BOXES = 16  # the same of a small detector, in some minutes
MEASURED, GRID = "What is measured", "Where"

Losses = Annotated[
    list[str] | None,
    typer.Option(
        help="ce,kd,rk,..., kendall_tau, agreement, package.module:function [default: ce]; of detectors: detector"
        " (sum), loss_classifier, loss_box_reg, loss_objectness, loss_rpn_box_reg [default: detector].",
        autocompletion=completion.measured,
        rich_help_panel=MEASURED,
    ),
]
Samples = Annotated[
    int | None,
    typer.Option(
        help="Images, stratified by label; 0 for all [default: 250 of them, of detectors 16].", rich_help_panel=MEASURED
    ),
]
Precision = Annotated[
    str,
    typer.Option(
        help="fp32, or bf16 with its error spot-checked.",
        autocompletion=completion.choices("fp32", "bf16"),
        rich_help_panel=MEASURED,
    ),
]
Bn = Annotated[
    str,
    typer.Option(
        help="Batch norm: frozen or recompute.",
        autocompletion=completion.choices("frozen", "recompute"),
        rich_help_panel=MEASURED,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A loss's setting, e.g. kd.temperature=2; repeat.", rich_help_panel=MEASURED),
]
Span = Annotated[
    float,
    typer.Option(help="Half the side of a plane around a net; 1 moves each filter by its norm.", rich_help_panel=GRID),
]
SpanBy = Annotated[
    str,
    typer.Option(
        help="What --span is, for nets of different width: direction; distance (of the weights at the edge); loss"
        " (relative rise of the first loss at the edge, 1: doubled).",
        autocompletion=completion.choices("direction", "distance", "loss"),
        rich_help_panel=GRID,
    ),
]
Steps = Annotated[int, typer.Option(help="Points along each axis, an odd number.", rich_help_panel=GRID)]
Seed = Annotated[int, typer.Option(help="Of the directions and of the draw of images.", rich_help_panel=GRID)]
Normalize = Annotated[str, typer.Option(help="Random directions: filter, layer or none.", rich_help_panel=GRID)]
Html = Annotated[
    bool, typer.Option("--html", help="Also an interactive page that opens offline.", rich_help_panel=OUTPUT)
]
Export = Annotated[list[str] | None, typer.Option(help="Also h5, vtp, npz or csv.", rich_help_panel=OUTPUT)]


def odd(who: str, steps: int) -> int:
    """`steps`, which must be odd."""
    require(steps % 2, f"{who}: --steps must be odd, so that the net is on the grid; got {steps}, try {steps + 1}")
    return steps


def images_of(data: "Data | BoxData", samples: int | None) -> int | None:
    """How many images are measured: 250 of them, or 16 with boxes, unless named; None for all."""
    from kdviz.data import Data

    require((samples or 0) >= 0, f"--samples must not be negative, got {samples}")
    few = IMAGES if isinstance(data, Data) else IMAGES_WITH_BOXES
    return min(few, len(data)) if samples is None else samples or None


@dataclass(frozen=True)
class MeasureOptions:
    """The options that say what is measured at each point."""

    losses: Losses = None
    samples: Samples = None
    settings: Settings = None
    precision: Precision = "fp32"

    def measurement(self, nets: "Nets", options: NetOptions, *, seed: int, bn: str | None) -> "Measurement":
        """What these options and those of the nets ask for."""
        from kdviz.analysis.landscape.options import Measurement
        from kdviz.data import Data
        from kdviz.train.device import choose_device

        return Measurement(
            losses=self.losses or (["ce"] if isinstance(nets.data, Data) else ["detector"]),
            settings=pairs(self.settings or []),
            samples=images_of(with_remarks(nets.data), self.samples),
            seed=seed,
            precision=self.precision,
            bn=bn,
            chunk=options.batch or "auto",
            device=choose_device(options.device) if options.device else None,
        )


def request_for(command: str, nets: "Nets", measurement: "Measurement", grid: "Grid", **others: Any) -> Request:
    """What decides the numbers of a landscape; not the device and not the images in the net at a time."""
    facts = {
        "measurement": {**vars(measurement), "losses": [name_with_code(one) for one in measurement.losses]},
        "grid": vars(grid),
        "data": (nets.data.name, nets.data.split, nets.data.sha256),
        "teacher": nets.teacher and nets.teacher.sha256,
        "labels": list(nets.labels),
        **others,
    }
    for name in ("chunk", "device", "teacher"):
        del facts["measurement"][name]
    return Request(command, " ".join(one.sha256 for one in nets.checkpoints), facts)


def run_folder_of(paths: list[Path]) -> Path | None:
    """The run's folder where it is the only path."""
    from kdviz.checkpoints.run_folder import is_run

    return paths[0] if len(paths) == 1 and (is_run(paths[0]) or paths[0].is_dir()) else None
