"""The animation of a run: a film of as many frames as said, whose net is where the result has it."""

import itertools
import sys

import numpy as np
import pytest
import xarray as xr
from PIL import Image

from kdviz.base.check import KdvizError
from kdviz.plots import animation
from kdviz.plots.animation import animate


@pytest.fixture(scope="module")
def run():
    axis = np.linspace(-1, 1, 7)
    bowl = 0.1 + axis[:, None] ** 2 + 3 * axis**2
    columns = {"alpha": [-0.9, 0.3, 0.0], "beta": [0.5, 0.4, 0.0], "epoch": [1, 2, 3], "loss": [4.0, 1.0, 0.1]}
    marks = {f"trajectory_{name}": ("checkpoint", values) for name, values in columns.items()}
    loss = ("alpha", "beta"), bowl, {"units": "nats", "long_name": "cross-entropy", "role": "loss"}
    attrs = {"kind": "trajectory", "label": "mine", "explained_variance": [0.8, 0.15]}
    return xr.Dataset({"ce": loss, **marks}, {"alpha": axis, "beta": axis}, attrs)


def test_the_gif_moves_from_the_first_to_the_last_kept_epoch(run, tmp_path, monkeypatch):
    monkeypatch.setattr(animation, "MOST", 12)
    path = animate(run, tmp_path / "a.gif")
    with Image.open(path) as film:
        assert film.n_frames == 2 * 4 + 1
        shown = []
        for frame in range(film.n_frames):
            film.seek(frame)
            shown.append(np.asarray(film.convert("RGB")).astype(int))
        assert film.info["duration"] == 1500
    assert all(np.abs(one - other).max() > 50 for one, other in itertools.pairwise(shown))
    again = animate(run, tmp_path / "b.gif")
    assert again.read_bytes() == path.read_bytes()


def test_each_frame_has_the_way_so_far(run):
    fig, draw, times = animation._scene(run, 6.75, "ce")
    way, net, curve, now = fig.axes[0].lines[-2], fig.axes[0].lines[-1], *fig.axes[1].lines[-2:]
    assert (times[0], times[10], times[-1]) == (0, 1, 2)
    draw(1.5)  # half-way from the second to the third
    np.testing.assert_allclose(way.get_data(), [[-0.9, 0.3, 0.15], [0.5, 0.4, 0.2]])
    np.testing.assert_allclose(net.get_data(), [[0.15], [0.2]])
    np.testing.assert_allclose(curve.get_data(), [[1, 2, 2.5], [4, 1, 0.55]])
    np.testing.assert_allclose(now.get_data(), [[2.5], [0.55]])
    assert [text.get_text() for text in fig.axes[1].texts] == ["epoch 2"]


def test_mp4_is_refused_without_ffmpeg_and_piped_to_it_with(run, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(KdvizError, match="mp4 needs ffmpeg, which is not installed"):
        animate(run, tmp_path / "a.mp4")
    with pytest.raises(KdvizError, match="one of gif, mp4"):
        animate(run, tmp_path / "a.avi")
    monkeypatch.setattr(animation, "MOST", 3)
    fake = tmp_path / "ffmpeg"  # writes how many bytes it was given into the file that it is asked for
    script = "import sys; open(sys.argv[-1], 'w').write(' '.join([str(len(sys.stdin.buffer.read())), *sys.argv]))"
    fake.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{script}" "$@"\n', encoding="utf-8")
    fake.chmod(0o755)
    count, *words = animate(run, tmp_path / "a.mp4").read_text(encoding="utf-8").split()
    width, height = map(int, words[words.index("-s") + 1].split("x"))
    assert (width % 2, height % 2) == (0, 0)
    assert int(count) == 3 * width * height * (3 + 18)  # three epochs and a pause of 1.5 s
    fake.write_text("#!/bin/sh\necho 'Unknown encoder' >&2\nexit 1\n", encoding="utf-8")
    with pytest.raises(KdvizError, match="ffmpeg could not write the film: Unknown encoder"):
        animate(run, tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def test_another_result_is_refused(run, tmp_path):
    with pytest.raises(KdvizError, match="has no trajectory"):
        animate(run.drop_vars("trajectory_alpha"), tmp_path / "a.gif")
