"""A run's trajectory as an animation: the net moving over the plane, its true loss growing beside it."""

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any

import numpy as np

from kdviz.base.check import one_of, require
from kdviz.base.files import atomic
from kdviz.plots.landscape import paint, scale
from kdviz.plots.landscape_panels import chosen, compact, levels_of, long_name, on_log_scale, titled
from kdviz.plots.style import BLACK, COLOURS, VENUES, figure, letter, outlined, style

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.figure import Figure

FORMATS = ("gif", "mp4")
MOST = 120  # frames, of which each epoch has up to 10
RATE = 12  # frames a second
PAUSE = 1.5  # seconds on the last frame
DPI = 130


def check_format(name: str) -> None:
    """Refuse a format that cannot be written on this machine.

    Raises:
        KdvizError: an unknown one, or mp4 without ffmpeg.
    """
    one_of("animation", FORMATS, format=name)
    require(name != "mp4" or which("ffmpeg"), "animation: mp4 needs ffmpeg, which is not installed; write a gif")


def animate(
    dataset: "xr.Dataset", path: str | os.PathLike, *, venue: str = "icml", loss: str | Sequence[str] = ()
) -> Path:
    """Write a run's trajectory as a film; the suffix of `path` says in which format.

    Left the loss on the plane of the run's two principal components with the net's way so far, right the true loss of
    the nets passed. Between two kept epochs the net moves along a straight line.

    Args:
        dataset: kind "trajectory".
        path: .gif, or .mp4 where ffmpeg is installed.
        venue: its text width sets the size.
        loss: the loss of the plane [default: the first; the panel beside it is always of the first].
    Raises:
        KdvizError: another format, mp4 without ffmpeg, a result without a trajectory.
    Source: ours.
    """
    target = Path(path)
    check_format(target.suffix.removeprefix("."))
    require("trajectory_alpha" in dataset, "animation: the result has no trajectory; draw kdviz path RUN")
    with style(venue):
        fig, draw, times = _scene(dataset, VENUES[venue][1], chosen([dataset], loss)[0])
        with atomic(target) as partial:
            (_write_gif if target.suffix == ".gif" else _write_mp4)(fig, draw, times, partial)
    return target


def _scene(dataset: "xr.Dataset", width: float, name: str) -> "tuple[Figure, Callable[[float], None], np.ndarray]":
    """The figure, what sets it to a time, and the times (in kept epochs, from 0) of its frames."""
    columns = [dataset[f"trajectory_{key}"].values for key in ("alpha", "beta", "epoch", "loss")]
    count = len(columns[0])
    fig = figure(width, 0.42 * width)
    left, right = fig.subplots(1, 2, width_ratios=[1.15, 1], gridspec_kw={"wspace": 0.1})
    plane = dataset.drop_vars([key for key in dataset.variables if str(key).startswith("trajectory_")])
    levels, logarithmic = levels_of([plane[name]])
    filled = paint(left, plane, name, levels, logarithmic)
    for mark in list(left.lines):  # of the last net and of the lowest point, which a film has no legend for
        mark.remove()
    scale(fig, filled, left, levels, on_log_scale(titled(dataset, name), logarithmic))
    shares = [f"{100 * share:.0f} %" for share in np.atleast_1d(dataset.attrs["explained_variance"])]
    left.set_xlabel(f"first component ({shares[0]} of the variance)")
    left.set_ylabel(f"second component ({shares[1]})")
    letter([left, right], [long_name(dataset, name), "true loss of the net"])
    values = columns[3]
    if values.min() > 0 and values.max() > 10 * values.min():
        right.set_yscale("log")
        right.yaxis.set_major_formatter(lambda value, _: compact(value))
    right.plot(columns[2], values, alpha=0)  # sets the limits
    right.set(xlabel="epoch", ylabel=titled(dataset, chosen([dataset])[0]))
    right.grid(axis="y")
    (way,) = left.plot([], [], color="white", linewidth=1.3, path_effects=outlined())
    (net,) = left.plot([], [], "o", color=COLOURS[1], markeredgecolor="white", markersize=6, clip_on=False, zorder=5)
    (curve,) = right.plot([], [], color=BLACK)
    (now,) = right.plot([], [], "o", color=COLOURS[1], clip_on=False, zorder=5)
    stamp = right.text(0.97, 0.95, "", transform=right.transAxes, ha="right", va="top")

    def draw(time: float) -> None:
        passed = np.append(np.arange(int(time) + 1), time)
        alpha, beta, epoch, value = (np.interp(passed, np.arange(count), column) for column in columns)
        way.set_data(alpha, beta)
        net.set_data(alpha[-1:], beta[-1:])
        curve.set_data(epoch, value)
        now.set_data(epoch[-1:], value[-1:])
        stamp.set_text(f"epoch {columns[2][int(time)]:g}")

    steps = max(1, min(10, MOST // count))
    return fig, draw, np.arange((count - 1) * steps + 1) / steps


def _frames(fig: "Figure", draw: Callable[[float], None], times: np.ndarray) -> Any:
    """The frames, as arrays [height, width, 4] of uint8; the panels stay where the last one needs them."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(fig)
    fig.set_dpi(DPI)
    draw(times[-1])
    engine = fig.get_layout_engine()
    if engine is not None:
        engine.execute(fig)
        fig.set_layout_engine("none")
    for time in times:
        draw(time)
        canvas.draw()
        yield np.asarray(canvas.buffer_rgba()).copy()


def _write_gif(fig: "Figure", draw: Callable[[float], None], times: np.ndarray, path: Path) -> None:
    from PIL import Image

    images = [Image.fromarray(frame).convert("RGB") for frame in _frames(fig, draw, times)]
    palette = images[-1].quantize(256, dither=Image.Dither.NONE)  # one for all, so that no colour flickers
    first, *rest = (image.quantize(palette=palette, dither=Image.Dither.NONE) for image in images)
    last = [1000 // RATE] * len(rest) + [int(1000 * PAUSE)]
    first.save(path, format="GIF", save_all=True, append_images=rest, duration=last, loop=0, optimize=False)


def _write_mp4(fig: "Figure", draw: Callable[[float], None], times: np.ndarray, path: Path) -> None:
    """By ffmpeg, which reads raw frames of even width and height, as the codec wants them."""
    held = np.append(times, [times[-1]] * int(PAUSE * RATE))
    frames = [one[: one.shape[0] // 2 * 2, : one.shape[1] // 2 * 2, :3] for one in _frames(fig, draw, held)]
    size = f"{frames[0].shape[1]}x{frames[0].shape[0]}"
    raw = ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", size, "-r", str(RATE), "-i", "-"]
    coded = ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4", str(path)]
    command = [str(which("ffmpeg")), "-loglevel", "error", "-y", *raw, *coded]
    done = subprocess.run(command, input=b"".join(one.tobytes() for one in frames), capture_output=True, check=False)
    said = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"])[-1]
    require(done.returncode == 0, f"animation: ffmpeg could not write the film: {said[:200]}; write a gif")
