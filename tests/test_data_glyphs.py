"""glyphs100: its outlines against fontTools' own geometry, its bytes, its cache."""

import os
import subprocess
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.pens.areaPen import AreaPen
from fontTools.pens.boundsPen import BoundsPen
from fontTools.ttLib import TTFont

import kdviz
from kdviz.base.check import KdvizError
from kdviz.data import glyphs, outlines

FONTS = Path(matplotlib.get_data_path()) / "fonts" / "ttf"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDVIZ_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def splits(cache):
    """val is drawn in a process of its own, under another hash seed, and read here from the cache that it left."""
    code = "import kdviz; print(kdviz.load_data('glyphs100', split='val').sha256)"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONHASHSEED": "7"},
        capture_output=True,
        text=True,
        check=True,
        timeout=600,
    )
    assert done.stdout.strip() == glyphs.SHA256["val"]
    assert done.stderr == ""
    return {split: kdviz.load_data("glyphs100", split=split) for split in ("train", "val", "test")}


@pytest.mark.parametrize("face", ["DejaVuSans", "DejaVuSerif-BoldItalic", "STIXGeneral", "STIXGeneralBolIta"])
def test_masks_have_the_area_and_the_box_of_the_outline(face):
    characters = "OIsgΔθ8%"
    masks = outlines.masks(FONTS / f"{face}.ttf", characters)
    with TTFont(FONTS / f"{face}.ttf") as font:
        glyph_set, names, em = font.getGlyphSet(), font.getBestCmap(), font["head"].unitsPerEm
        cell = 1.25 * em / outlines.CELLS
        for mask, character in zip(masks, characters, strict=True):
            area, bounds = AreaPen(glyph_set), BoundsPen(glyph_set)
            glyph_set[names[ord(character)]].draw(area)
            glyph_set[names[ord(character)]].draw(bounds)
            # Flattened curves and whole levels lose up to half a level per touched cell, under two per cent here.
            assert mask.sum() / 255 * cell**2 == pytest.approx(abs(area.value), rel=0.02)
            left, low, right, high = bounds.bounds
            rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
            # A stretch of w cells meets w + 1 to w + 3 windows two cells wide; samples may miss a thin tip.
            assert np.ptp(columns) + 1 == pytest.approx((right - left) / cell + 2, abs=1.6)
            assert np.ptp(rows) + 1 == pytest.approx((high - low) / cell + 2, abs=1.6)
            # A cell sees itself and its right lower neighbours, so that the middle lies half a cell early.
            assert columns[[0, -1]].mean() == pytest.approx(outlines.CELLS / 2 - 1, abs=1)
            assert rows[[0, -1]].mean() == pytest.approx(outlines.CELLS / 2 - 1, abs=1)


def test_holes_are_empty_and_strokes_full():
    (ring,) = outlines.masks(FONTS / "DejaVuSans-Bold.ttf", "O")
    assert ring[31, 31] == 0
    assert ring[31].max() == 255


def test_the_warp_samples_exactly_where_its_map_says():
    masks = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (3, 64, 64)).astype(np.int32)
    masks[:, [0, 62, 63]] = masks[:, :, [0, 62, 63]] = 0
    two = 2 * 65536  # cells per pixel
    straight = glyphs._warp(masks, np.array([2]), np.array([[two, 0, 0, two, 0, 0]], dtype=np.int32))
    assert np.array_equal(straight.reshape(32, 32), masks[2, ::2, ::2])
    turned = glyphs._warp(masks, np.array([1]), np.array([[0, two, -two, 0, 0, 0]], dtype=np.int32))
    expected = [[masks[1, 62 - 2 * x, 2 * y] for x in range(32)] for y in range(32)]
    assert turned.reshape(32, 32).tolist() == expected
    shifted = glyphs._warp(masks, np.array([0]), np.array([[two, 0, 0, two, 16, -32]], dtype=np.int32))
    assert np.array_equal(shifted.reshape(32, 32)[:30, 1:], masks[0, 4:, :-2][::2, ::2])


def test_turns_are_rotations():
    """Without slant and with equal scales the map's rows are orthogonal, to the rounding of 1/65536 cell."""

    class Plain(glyphs._Draws):
        def uniform(self, low, high, columns=1):
            drawn = super().uniform(low, high, columns)
            return np.where((low, high) in (((-56, 56)), (216, 296)), 0 if low < 0 else 256, drawn).astype(np.int32)

    plain = Plain("test", 500)
    a, b, c, d, _, _ = glyphs._affine(plain, np.zeros((500, 1)), np.zeros((500, 1))).T.astype(np.float64)
    np.testing.assert_allclose(a * c + b * d, 0, atol=4 * 65536 * 3)
    np.testing.assert_allclose(np.hypot(a, b), np.hypot(c, d), atol=2)
    assert np.degrees(np.abs(np.arctan2(b, a))).max() < 16


def test_splits_are_the_published_bytes(splits):
    for split, data in splits.items():
        assert len(data) == glyphs.SIZES[split]
        assert data.sha256 == glyphs.SHA256[split]
        assert tuple(data.images.shape[1:]) == (3, 32, 32)
        assert data.labels.bincount().tolist() == [len(data) // 100] * 100
        assert data.synthetic
        assert not data.flip


def test_splits_share_no_image(splits):
    rows = [row.tobytes() for data in splits.values() for row in data.images.numpy()]
    assert len(rows) == 26_000 == len(set(rows))


def test_constants_are_those_of_the_training_pixels(splits):
    values = np.arange(256) / 255
    for channel in range(3):
        share = np.bincount(splits["train"].images[:, channel].numpy().ravel(), minlength=256) / (20_000 * 1024)
        mean = share @ values
        assert mean == pytest.approx(glyphs.MEAN[channel], abs=1e-4)
        assert np.sqrt(share @ (values - mean) ** 2) == pytest.approx(glyphs.STD[channel], abs=1e-4)


def test_classes_are_100_different_characters_in_16_faces():
    assert len(glyphs.CLASSES) == len(set(glyphs.CLASSES)) == 100
    assert len(set(glyphs.FACES)) == 16
    assert {"O", "0", "o", "l", "1", "I"} <= set(glyphs.CLASSES)


@pytest.mark.parametrize("damage", ["bytes", "pixels", "shape"])
def test_a_bad_cache_is_built_again(splits, cache, damage):
    (kept,) = cache.glob("glyphs100-val-*.npy")
    whole = kept.read_bytes()
    images = np.load(kept)
    images[5, 1, 3, 3] ^= 1
    if damage == "bytes":
        kept.write_bytes(whole[:5000])
    else:
        np.save(kept, images if damage == "pixels" else images[:10])
    assert kdviz.load_data("glyphs100", split="val").sha256 == glyphs.SHA256["val"]
    assert kept.read_bytes() == whole
    assert [path.suffix for path in cache.iterdir()] == [".npy"] * 3


def test_an_unwritable_cache_is_no_error(monkeypatch):
    monkeypatch.setenv("KDVIZ_CACHE", "/dev/null/kdviz")
    assert kdviz.load_data("glyphs100", split="val").sha256 == glyphs.SHA256["val"]


def test_other_fonts_are_told(monkeypatch, tmp_path):
    monkeypatch.setenv("KDVIZ_CACHE", str(tmp_path))
    monkeypatch.setitem(glyphs.SHA256, "val", "0" * 64)
    with pytest.raises(KdvizError, match=rf"matplotlib {matplotlib.__version__}, fonttools"):
        kdviz.load_data("glyphs100", split="val")
    assert not list(tmp_path.iterdir())


def test_a_missing_or_broken_font_is_told(tmp_path):
    with pytest.raises(KdvizError, match="cannot draw characters"):
        outlines.masks(tmp_path / "none.ttf", "a")
    (tmp_path / "bad.ttf").write_bytes(b"not a font at all")
    with pytest.raises(KdvizError, match="cannot draw characters"):
        outlines.masks(tmp_path / "bad.ttf", "a")
    with pytest.raises(KdvizError, match="cannot draw characters"):
        outlines.masks(FONTS / "DejaVuSans.ttf", "\U0010ffff")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"KDVIZ_CACHE": "/a/b"}, "/a/b"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/kdviz"),
        ({"KDVIZ_CACHE": "/a", "XDG_CACHE_HOME": "/c"}, "/a"),
    ],
)
def test_the_cache_folder_follows_the_environment(monkeypatch, variables, expected):
    from kdviz.data import cache as kept

    for name in ("KDVIZ_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert kept.folder() == Path(expected)
