"""Real archives in small: IDX files and CIFAR's two versions, written here byte by byte; damage; hostile pickles."""

import gzip
import io
import os
import pickle
import struct
import tarfile

import numpy as np
import pytest
import torch

import kdviz
from kdviz.base.check import KdvizError
from kdviz.data import idx, pickles

COUNT = {"cifar10": 40, "cifar100": 400}


def pixels(count, seed=0):
    return np.random.Generator(np.random.PCG64(seed)).integers(0, 256, (count, 3072)).astype(np.uint8)


def py2_string(value):
    """Python 2's str in protocol 2."""
    return b"U" + bytes([len(value)]) + value if len(value) < 256 else b"T" + struct.pack("<i", len(value)) + value


def py2_dictionary(**items):
    """A protocol 2 pickle as Python 2 and NumPy of 2009 wrote it, opcode by opcode."""
    out = b"\x80\x02}("
    for key, value in items.items():
        out += py2_string(key.encode())
        if isinstance(value, np.ndarray):
            out += b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R("
            out += b"K\x01" + b"".join(b"J" + struct.pack("<i", size) for size in value.shape) + b"\x86"
            out += b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
            out += b"\x89" + py2_string(value.tobytes()) + b"tb"
        else:
            out += b"]("
            out += b"".join(b"K" + bytes([item]) if isinstance(item, int) else py2_string(item) for item in value)
            out += b"e"
    return out + b"u."


def py3_dictionary(**items):
    return pickle.dumps(items, protocol=2)


def cifar_files(name, version, dictionary=py2_dictionary):
    """{file name: bytes} of a small CIFAR, and its train and test (pixels, labels)."""
    coarse, classes = name == "cifar100", 100 if name == "cifar100" else 10
    parts = ["train", "test"] if coarse else [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    files, content = {}, {}
    for number, part in enumerate(parts):
        rows = pixels(COUNT[name], seed=number)
        labels = [(7 * i + number) % classes for i in range(len(rows))]
        content[part] = rows, labels
        if version == "binary":
            heads = [bytes([i % 20, label]) if coarse else bytes([label]) for i, label in enumerate(labels)]
            files[f"{part}.bin"] = b"".join(head + row.tobytes() for head, row in zip(heads, rows, strict=True))
        elif coarse:
            files[part] = dictionary(data=rows, fine_labels=labels, coarse_labels=[i % 20 for i in range(len(rows))])
        else:
            files[part] = dictionary(batch_label=[b"training batch"], labels=labels, data=rows)
    names = [f"class {i}".encode() for i in range(classes)]
    if version == "binary":
        files["fine_label_names.txt" if coarse else "batches.meta.txt"] = b"\n".join(names) + b"\n"
    else:
        key = "fine_label_names" if coarse else "label_names"
        files["meta" if coarse else "batches.meta"] = dictionary(**{key: names})
    join = [content[part] for part in parts[:-1]]
    train = np.concatenate([rows for rows, _ in join]), [label for _, labels in join for label in labels]
    return files, train, content[parts[-1]]


FOLDERS = {
    ("cifar10", "python"): "cifar-10-batches-py",
    ("cifar10", "binary"): "cifar-10-batches-bin",
    ("cifar100", "python"): "cifar-100-python",
    ("cifar100", "binary"): "cifar-100-binary",
}


def archive_name(name, version):
    return f"cifar-{name.removeprefix('cifar')}-{version}.tar.gz"


def write_folder(folder, files):
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def write_tar(path, folder, files):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))


@pytest.mark.parametrize("packed", ["folder", "inside", "archive", "file"])
@pytest.mark.parametrize(("name", "version"), FOLDERS)
def test_cifar_comes_out_as_it_went_in(name, version, packed, tmp_path):
    files, train, test = cifar_files(name, version)
    folder, archive = FOLDERS[name, version], archive_name(name, version)
    root = tmp_path
    if packed in ("folder", "inside"):
        write_folder(tmp_path / folder, files)
        root = tmp_path / folder if packed == "inside" else tmp_path
    else:
        write_tar(tmp_path / archive, folder, files)
        root = tmp_path / archive if packed == "file" else tmp_path
    data = kdviz.load_data(name, root=root)
    assert np.array_equal(data.images.numpy(), test[0].reshape(-1, 3, 32, 32))
    assert data.labels.tolist() == test[1]
    assert data.class_names == tuple(f"class {i}" for i in range(data.classes))
    kept, held = (kdviz.load_data(name, split=split, root=root) for split in ("train", "val"))
    assert len(held) == len(train[0]) // 10
    assert sorted(kept.ids.tolist() + held.ids.tolist()) == list(range(len(train[0])))
    for part in (kept, held):
        assert np.array_equal(part.images.numpy(), train[0].reshape(-1, 3, 32, 32)[part.ids])
        assert part.labels.tolist() == [train[1][i] for i in part.ids]
    assert not [path for path in tmp_path.rglob("*") if path.is_dir() and path.name == folder and packed == "file"]
    # made up here, it is smaller than the published one, which stands in every result
    assert data.warning.startswith(f"not the published {name}: ")
    assert data.warning.endswith(f"holds {len(test[1]):,} images where that has 10,000")
    assert kept.warning.endswith(f"holds {len(train[1]):,} images where that has 50,000")
    logits = kdviz.collect_logits(kdviz.models.build("resnet8", classes=data.classes, seed=0), data)
    assert logits.attrs["data_warning"] == data.warning


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_missing_files_name_the_command_that_brings_them(name, tmp_path):
    with pytest.raises(KdvizError, match=f"kdviz data fetch {name} --root {tmp_path} brings it"):
        kdviz.load_data(name, root=tmp_path)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_pickles_of_python_3_are_read_too(name, tmp_path):
    files, _, test = cifar_files(name, "python", py3_dictionary)
    write_folder(tmp_path / FOLDERS[name, "python"], files)
    data = kdviz.load_data(name, root=tmp_path)
    assert np.array_equal(data.images.numpy(), test[0].reshape(-1, 3, 32, 32))
    assert data.labels.tolist() == test[1]


def test_the_handmade_pickle_is_what_pickle_reads():
    rows = pixels(2)
    found = pickle.loads(py2_dictionary(data=rows, labels=[3, 4], names=[b"a"]), encoding="bytes")
    assert np.array_equal(found[b"data"], rows)
    assert found[b"labels"] == [3, 4]
    assert found[b"names"] == [b"a"]


class Bomb:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile(marker):
    """Pickles that run something, or try to reach it, when read by pickle itself."""
    yield "system", pickle.dumps({"data": Bomb(os.system, f"touch {marker}")})
    yield "eval", pickle.dumps({"data": Bomb(eval, f"open({str(marker)!r}, 'w')")})
    yield "first", pickle.dumps(Bomb(os.mkdir, str(marker)), protocol=0)
    yield "nested", b"\x80\x04\x8c\x15numpy.core.multiarray\x8c\x18_reconstruct.__globals__\x93."
    yield "codec", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00zip\x86R."
    yield "attribute", b"\x80\x02}(U\x04datacnumpy\ndtype\n}(U\x08__call__K\x01ubu."
    yield "slots", b"\x80\x02}(U\x04datacnumpy\ndtype\nN}U\x08__call__K\x01s\x86bu."
    yield "called", b"\x80\x02}(U\x04datacnumpy\nndarray\n)Ru."
    yield "objects", pickle.dumps({"data": np.array([Bomb(os.mkdir, str(marker))], dtype=object)})
    yield "floats", pickle.dumps({"data": np.zeros(3)})
    yield "persistent", b"\x80\x02}(U\x04dataU\x01xQu."
    yield "extension", b"\x80\x02}(U\x04data\x82\x01u."


@pytest.mark.parametrize("index", range(12))
def test_hostile_pickles_are_refused_and_nothing_runs(index, tmp_path):
    marker = tmp_path / "marker"
    _, raw = list(hostile(marker))[index]
    with pytest.raises(KdvizError) as caught:
        pickles.read(raw, where="batch")
    assert "\n" not in str(caught.value)
    assert not marker.exists()


def test_a_hostile_archive_is_refused_by_name(tmp_path):
    files, _, _ = cifar_files("cifar100", "python")
    marker = tmp_path / "marker"
    files["test"] = pickle.dumps({"data": Bomb(os.system, f"touch {marker}")})
    write_tar(tmp_path / "cifar-100-python.tar.gz", "cifar-100-python", files)
    with pytest.raises(KdvizError, match=r"cifar-100-python.tar.gz: test: .*system.*refused"):
        kdviz.load_data("cifar100", root=tmp_path)
    assert not marker.exists()


def test_standins_keep_nothing_between_pickles():
    good = py2_dictionary(data=pixels(1))
    for _, raw in hostile("/dev/null/x"):
        with pytest.raises(KdvizError):
            pickles.read(raw, where="batch")
    assert np.array_equal(pickles.read(good, where="batch")["data"], pixels(1))


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "not a pickle"),
        (b"\x80\x02}(U\x04da", "not a pickle"),
        (b"garbage", "not a pickle"),
        (pickle.dumps([1, 2]), "a list, expected a dictionary"),
        (py2_dictionary(data=pixels(1)).replace(b"J\x00\x0c\x00\x00", b"J\x01\x0c\x00\x00"), "sizes"),
    ],
)
def test_damaged_pickles_are_told(raw, words):
    with pytest.raises(KdvizError, match=words):
        pickles.read(raw, where="batch")


def change(files, name, content):
    files[name] = content(files[name])


@pytest.mark.parametrize(
    ("version", "spoil", "words"),
    [
        ("binary", lambda f: change(f, "test.bin", lambda raw: raw[:-5]), "no whole number of 3074-byte records"),
        ("binary", lambda f: change(f, "test.bin", lambda raw: raw[:1] + b"\xc8" + raw[2:]), "label 200, but cifar100"),
        ("binary", lambda f: f.pop("test.bin"), "holds no test.bin"),
        ("binary", lambda f: change(f, "fine_label_names.txt", lambda raw: raw[:20]), "class names, expected 100"),
        ("python", lambda f: change(f, "test", lambda raw: raw[:-500]), "test: not a pickle"),
        ("python", lambda f: f.update(test=py2_dictionary(data=pixels(3), labels=[1, 2, 3])), "no list 'fine_labels'"),
        ("python", lambda f: f.update(test=py2_dictionary(fine_labels=[1])), "no array 'data'"),
        ("python", lambda f: f.update(test=py2_dictionary(data=pixels(3), fine_labels=[1])), "3 images but 1 labels"),
        ("python", lambda f: f.update(meta=py2_dictionary(label_names=[b"a"])), "expected a list of names"),
    ],
)
def test_wrong_contents_are_one_clear_line(version, spoil, words, tmp_path):
    files, _, _ = cifar_files("cifar100", version)
    spoil(files)
    write_tar(tmp_path / archive_name("cifar100", version), "x", files)
    with pytest.raises(KdvizError, match=words) as caught:
        kdviz.load_data("cifar100", root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [0, 20, 30_000, -1])
def test_truncated_archives_are_one_clear_line(kept, tmp_path):
    files, _, _ = cifar_files("cifar100", "binary")
    path = tmp_path / "cifar-100-binary.tar.gz"
    write_tar(path, "cifar-100-binary", files)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if kept >= 0 else len(whole) // 2])
    with pytest.raises(KdvizError, match=r"cifar-100-binary\.tar\.gz") as caught:
        kdviz.load_data("cifar100", split="test", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_a_link_in_an_archive_is_not_followed(tmp_path):
    path = tmp_path / "cifar-100-binary.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in ("fine_label_names.txt", "test.bin"):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(member)
    with pytest.raises(KdvizError, match=r"holds no fine_label_names\.txt"):
        kdviz.load_data("cifar100", root=tmp_path)


def test_data_folder_of_the_environment(tmp_path, monkeypatch):
    files, _, test = cifar_files("cifar10", "binary")
    write_folder(tmp_path / "cifar-10-batches-bin", files)
    monkeypatch.setenv("KDVIZ_DATA", str(tmp_path))
    assert kdviz.load_data("cifar10").labels.tolist() == test[1]


def idx_bytes(array, magic=None):
    head = magic or bytes((0, 0, 8, array.ndim))
    return head + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def fashion(folder, zipped=True, **replaced):
    """The four files of a small Fashion-MNIST; returns the test images and labels."""
    made = {}
    for part, count in (("train", 240), ("t10k", 20)):
        made[f"{part}-images-idx3-ubyte"] = pixels(count)[:, :784].reshape(count, 28, 28)
        made[f"{part}-labels-idx1-ubyte"] = (np.arange(count) % 10).astype(np.uint8)
    for name, array in made.items():
        raw = replaced.get(name.replace("-", "_"), idx_bytes(array))
        path = folder / (name + ".gz" if zipped else name)
        path.write_bytes(gzip.compress(raw) if zipped else raw)
    return made


@pytest.mark.parametrize("zipped", [True, False])
def test_fashion_mnist_is_padded_and_repeated(zipped, tmp_path):
    made = fashion(tmp_path, zipped)
    data = kdviz.load_data("fashion-mnist", root=tmp_path)
    assert data.labels.tolist() == [i % 10 for i in range(20)]
    expected = np.zeros((20, 3, 32, 32), dtype=np.uint8)
    for channel in range(3):
        expected[:, channel, 2:30, 2:30] = made["t10k-images-idx3-ubyte"]
    assert np.array_equal(data.images.numpy(), expected)
    val, train = (kdviz.load_data("fashion-mnist", split=split, root=tmp_path) for split in ("val", "train"))
    assert (len(train), len(val)) == (220, 20)
    assert val.labels.bincount().tolist() == [2] * 10
    assert not set(val.ids.tolist()) & set(train.ids.tolist())


TEST_IMAGES = "t10k_images_idx3_ubyte"


@pytest.mark.parametrize(
    ("replaced", "words"),
    [
        ({TEST_IMAGES: idx_bytes(np.zeros((20, 28, 28), np.uint8), b"\0\0\x0d\3")}, "starts with 00 00 0d 03"),
        ({TEST_IMAGES: idx_bytes(np.zeros((20, 28, 28), np.uint8))[:-1]}, "holds 15679 of 15680 bytes; truncated"),
        ({TEST_IMAGES: idx_bytes(np.zeros((20, 28, 28), np.uint8)) + b"x"}, "more bytes than its header"),
        ({TEST_IMAGES: b"\0\0\x08\3\0\0"}, "ends within its header"),
        ({TEST_IMAGES: b""}, "starts with"),
        ({TEST_IMAGES: b"\0\0\x08\3" + b"\xff" * 12}, "damaged"),
        ({TEST_IMAGES: idx_bytes(np.zeros((20, 32, 32), np.uint8))}, r"\(32, 32\), expected \(28, 28\)"),
        ({TEST_IMAGES: idx_bytes(np.zeros((19, 28, 28), np.uint8))}, "19 images but .* 20"),
        ({"t10k_labels_idx1_ubyte": idx_bytes(np.full(20, 10, np.uint8))}, "label 10, but there are 10 classes"),
    ],
)
def test_wrong_idx_files_are_one_clear_line(replaced, words, tmp_path):
    fashion(tmp_path, **replaced)
    with pytest.raises(KdvizError, match=words) as caught:
        kdviz.load_data("fashion-mnist", root=tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kept", [3, 15, 3000])
def test_damaged_gzip_is_told(kept, tmp_path):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(idx_bytes(pixels(4)))[:kept])
    with pytest.raises(KdvizError, match="download it again"):
        idx.read(path, 2)


@pytest.mark.skipif(
    not os.path.exists("/usr/share/datasets/fashion-mnist"), reason="dataset-fashion-mnist not installed"
)
def test_the_real_fashion_mnist_has_the_stated_constants():
    """10 classes of 6 000 and 1 000 images (Xiao et al. 2017, table 1); constants over all training pixels."""
    train, val, test = (kdviz.load_data("fashion-mnist", split=split) for split in ("train", "val", "test"))
    assert (train.labels.bincount() + val.labels.bincount()).tolist() == [6000] * 10
    assert test.labels.bincount().tolist() == [1000] * 10
    grey = torch.cat([train.images[:, 0], val.images[:, 0]]).numpy()
    share = np.bincount(grey.ravel(), minlength=256) / grey.size
    mean = share @ (np.arange(256) / 255)
    assert mean == pytest.approx(train.mean[0], abs=1e-4)
    assert np.sqrt(share @ (np.arange(256) / 255 - mean) ** 2) == pytest.approx(train.std[0], abs=1e-4)
