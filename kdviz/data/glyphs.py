"""glyphs100: the synthetic default data set, drawn from the fonts that matplotlib ships.

A character in one of 16 faces under a random affine map, on a noisy gradient, with part of another character behind it.
Everything is integer arithmetic on raw generator bits, so that the same bytes come out on every machine.
"""

import string
from functools import lru_cache
from importlib import metadata
from pathlib import Path

import numpy as np
import torch

from kdviz.base.check import KdvizError
from kdviz.base.seeds import derive
from kdviz.data import cache
from kdviz.data.base import DATA, Data, DataEntry
from kdviz.data.outlines import CELLS, masks

NAME = "glyphs100"
# Look-alikes are kept on purpose (O 0 o, l 1 I, and pairs that differ in size alone): a teacher knows them as such.
CLASSES = (
    string.digits + string.ascii_uppercase + string.ascii_lowercase + "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθλξπφψω" + "!?@#$%&*+=/<{§"
)
FACES = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-Oblique", "DejaVuSansMono-BoldOblique"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
    *("STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic", "STIXGeneralBolIta"),
)
SIZES = {"train": 20_000, "val": 2_000, "test": 4_000}
SIDE = 32
SHA256 = {
    "train": "d484b2ef7f294fe2d22b5013de8d8e0fc38c6688ec00c8357f636fb03cacdba3",
    "val": "9af9bbab10a9d07e55993017e223594456a3a24479671756391fa217b2c914d2",
    "test": "81441aec9fe1838fd5a49c4984e17f4c984724fb941c56053f6d091309ab1a82",
}
MEAN, STD = (0.4950, 0.4934, 0.4930), (0.2796, 0.2785, 0.2772)  # measured on train
_CHUNK = 50  # images; their arrays stay in the processor's cache


class _Draws:
    """Columns of uniform integers from raw PCG64 bits; NumPy keeps the bit stream, its distributions it may change."""

    def __init__(self, split: str, count: int) -> None:
        self.bits, self.count = np.random.PCG64(derive(0, NAME, split)), count

    def uniform(self, low: int, high: int, columns: int = 1) -> np.ndarray:
        """int32 [count, columns] in low..high, ends included."""
        raw = self.bits.random_raw(self.count * columns).reshape(self.count, columns) >> np.uint64(32)
        return (low + (raw * np.uint64(high - low + 1) >> np.uint64(32)).astype(np.int64)).astype(np.int32)

    def bytes(self, rows: int, columns: int) -> np.ndarray:
        """uint8 [rows, columns]; columns a multiple of 8."""
        return self.bits.random_raw(rows * columns // 8).astype("<u8").view(np.uint8).reshape(rows, columns)


def _affine(draws: _Draws, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The map from pixels to mask cells as int32 [n, 6]: 2x2 in 1/65536 cell per pixel, then the centre in 1/16 pixel.

    A turn by theta is rational in tan(theta/2) = t/256, so that no sine is rounded: |theta| < 16 degrees.
    """
    t = draws.uniform(-34, 34).astype(np.int64)
    wide = draws.uniform(370, 545).astype(np.int64)  # 1/256 cell per pixel: an em is 24 to 35 pixels
    high = wide * draws.uniform(216, 296) // 256
    slant = draws.uniform(-56, 56)
    one = 65536 + t * t
    cos, sin = (65536 - t * t) * 256, 512 * t * 256
    a, b = wide * cos // one, wide * sin // one
    c, d = -high * sin // one, high * cos // one
    return np.concatenate([a + slant * c // 256, b + slant * d // 256, c, d, x, y], axis=1).astype(np.int32)


def _warp(atlas: np.ndarray, which: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Masks seen through their maps: int32 [n, 1024], 0..255, bilinear in 1/256 cell."""
    y, x = np.divmod(np.arange(SIDE * SIDE, dtype=np.int32), SIDE)
    a, b, c, d, cx, cy = (column[:, None] for column in affine.T)
    px, py = 16 * x - 248 - cx, 16 * y - 248 - cy
    # The edge cells of a mask are empty, so clipping to them reads nothing.
    u = np.clip(((a * px + b * py) >> 12) + (CELLS // 2 - 1) * 256, 0, (CELLS - 2) * 256)
    v = np.clip(((c * px + d * py) >> 12) + (CELLS // 2 - 1) * 256, 0, (CELLS - 2) * 256)
    corner = which[:, None] * (CELLS * CELLS) + (v >> 8) * CELLS + (u >> 8)
    fu, fv, flat = u & 255, v & 255, atlas.reshape(-1)
    a, b, c, d = (flat.take(corner + step).astype(np.int32) for step in (0, 1, CELLS, CELLS + 1))
    return ((a * (256 - fu) + b * fu) * (256 - fv) + (c * (256 - fu) + d * fu) * fv) >> 16


def _colours(draws: _Draws) -> dict[str, np.ndarray]:
    """Paper, ink and stray colours [n, 3]: dark paper with light ink, or the other way round; the stray in between."""
    paper, ink, stray = draws.uniform(0, 125, 3), draws.uniform(115, 255, 3), draws.uniform(40, 215, 3)
    light = draws.uniform(0, 1) == 1
    return {"paper": np.where(light, 255 - paper, paper), "ink": np.where(light, 255 - ink, ink), "stray": stray}


def _parameters(draws: _Draws, labels: np.ndarray) -> dict[str, np.ndarray]:
    """All that is random about each image but its noise."""
    n, far, side = len(labels), draws.uniform(13 * 16, 18 * 16), draws.uniform(0, 3)
    other = draws.uniform(-14 * 16, 14 * 16)
    signed = np.where(side & 1, far, -far)
    faces = draws.uniform(0, len(FACES) - 1, 2)
    strangers = (labels + draws.uniform(1, len(CLASSES) - 1)[:, 0]) % len(CLASSES)
    return {
        **_colours(draws),
        "slope": draws.uniform(-30, 30, 6).reshape(n, 3, 2),
        "glyph": faces[:, 0] * len(CLASSES) + labels,
        "map": _affine(draws, draws.uniform(-56, 56), draws.uniform(-56, 56)),
        "stranger": faces[:, 1] * len(CLASSES) + strangers,
        "stranger_map": _affine(draws, np.where(side < 2, signed, other), np.where(side < 2, other, signed)),
        "noise": draws.uniform(0, 48),
    }


def _compose(atlas: np.ndarray, p: dict[str, np.ndarray], noise: np.ndarray) -> np.ndarray:
    """Images uint8 [n, 3, 32, 32] from their parameters and noise bytes [n, 3072]."""
    n, (y, x) = len(noise), np.divmod(np.arange(SIDE * SIDE, dtype=np.int32), SIDE)
    slope = (p["slope"][:, :, :1] * (2 * x - 31) + p["slope"][:, :, 1:] * (2 * y - 31)) >> 5
    picture = p["paper"][:, :, None] + slope
    for colour, which, affine in (("stray", "stranger", "stranger_map"), ("ink", "glyph", "map")):
        cover = _warp(atlas, p[which], p[affine])[:, None, :]
        picture += ((p[colour][:, :, None] - picture) * cover) >> 8
    grain = ((noise.reshape(n, 3, -1).astype(np.int32) - 128) * p["noise"][:, :, None]) >> 7
    return np.clip(picture + grain, 0, 255).astype(np.uint8).reshape(n, 3, SIDE, SIDE)


@lru_cache(maxsize=1)
def atlas() -> np.ndarray:
    """The masks of every class in every face, uint8 [1600, 64, 64], face by face."""
    import matplotlib

    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return np.concatenate([masks(fonts / f"{face}.ttf", CLASSES) for face in FACES])


def draw(split: str) -> np.ndarray:
    """The images uint8 [n, 3, 32, 32] of a split, drawn anew; image i shows class i mod 100."""
    faces, count = atlas(), SIZES[split]
    draws = _Draws(split, count)
    parameters = _parameters(draws, np.arange(count, dtype=np.int32) % len(CLASSES))
    images = np.empty((count, 3, SIDE, SIDE), dtype=np.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, min(start + _CHUNK, count))
        noise = draws.bytes(part.stop - start, 3 * SIDE * SIDE)
        images[part] = _compose(faces, {key: value[part] for key, value in parameters.items()}, noise)
    return images


def _record(split: str, images: np.ndarray) -> Data:
    labels = torch.arange(len(images)) % len(CLASSES)
    return Data(
        name=NAME,
        split=split,
        images=torch.from_numpy(images),
        labels=labels,
        mean=MEAN,
        std=STD,
        class_names=tuple(CLASSES),
        synthetic=True,
        flip=False,
    )


def load(split: str, root: Path | None = None) -> Data:
    """A split from the cache, or drawn anew; its SHA-256 is checked either way. `root` is not used.

    Raises: KdvizError when what is drawn here is not what is drawn elsewhere (changed fonts).
    """
    key, shape = f"{NAME}-{split}-{SHA256[split][:12]}", (SIZES[split], 3, SIDE, SIDE)
    kept = cache.read(key)
    if kept is not None and kept.shape == shape and kept.dtype == np.uint8:
        data = _record(split, kept)
        if data.sha256 == SHA256[split]:
            return data
    images = draw(split)
    data = _record(split, images)
    if data.sha256 != SHA256[split]:
        found = ", ".join(f"{name} {metadata.version(name)}" for name in ("matplotlib", "fonttools", "numpy"))
        raise KdvizError(
            f"{NAME}: the {split} images drawn here have SHA-256 {data.sha256[:12]}, expected {SHA256[split][:12]};"
            f" their outlines come from matplotlib's fonts, so install the pinned versions (here: {found})"
        )
    cache.write(key, images)
    return data


DATA.add(
    NAME,
    DataEntry(
        summary="characters in 16 faces: 20 000 train, 2 000 val, 4 000 test; the embedded default",
        classes=len(CLASSES),
        shape=(3, SIDE, SIDE),
        load=load,
        synthetic=True,
    ),
)
