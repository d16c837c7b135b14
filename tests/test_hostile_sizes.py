"""Small files that ask for gigabytes: refused in one line, before the memory is taken."""

import bz2
import gzip
import io
import lzma
import pickle
import resource
import struct
import subprocess
import sys
import tarfile
import zipfile

import h5py
import numpy as np
import pytest
import torch
from PIL import Image

from kdviz.base.check import KdvizError
from kdviz.base.results import read_dataset
from kdviz.checkpoints import load_checkpoint
from kdviz.data import archives, files, idx, pickles

GIB = 2**30


@pytest.fixture(autouse=True)
def bounded():
    """Half a GiB beyond what the process has now; what takes more raises MemoryError, which no refusal is."""
    with open("/proc/self/statm") as stream:
        held = int(stream.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (held + GIB // 2, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_bound_of_these_tests_binds():
    with pytest.raises(MemoryError):
        bytearray(GIB)


TUPLES = b"(I1\nI2\nt" + b"".join(b"q%c" % i + b"(h%c" % i + b"h%c" % i + b"t" for i in range(40))
PICKLES = {
    "memo": b"\x80\x02}r" + struct.pack("<I", 2**28) + b".",
    "text memo": b"\x80\x02}p400000000\n.",
    "encoded again and again": (
        b"\x80\x02](c_codecs\nencode\nq\x00X" + struct.pack("<I", 10**6) + b"a" * 10**6 + b"q\x01U\x06latin1q\x020"
        b"0" + b"h\x00h\x01h\x02\x86R" * 2000 + b"e."
    ),
    "a tuple of tuples as a key": b"\x80\x02}" + TUPLES + b"I1\ns.",
    "a tuple twice": b"\x80\x02}(I1\nI2\nt2\x86I1\ns.",
    "a long that is all": b"\x80\x02\x8b" + struct.pack("<i", 2**30) + b".",
    "bytes that are not there": b"\x80\x04\x8e" + struct.pack("<Q", 2**40) + b".",
}


@pytest.mark.parametrize("bomb", PICKLES)
def test_a_pickle_takes_no_more_than_its_length_allows(bomb):
    with pytest.raises(KdvizError, match=r"^batch: not a pickle of this data set") as caught:
        pickles.read(PICKLES[bomb], where="batch")
    assert "MemoryError" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("protocol", range(5))
def test_honest_pickles_still_open(protocol):
    names = ["a", "b"] * 500
    held = {"data": np.arange(6, dtype=np.uint8).reshape(2, 3), "labels": list(range(1000)), "names": names}
    found = pickles.read(pickle.dumps(held, protocol), where="batch")
    assert found["data"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["labels"] == held["labels"]
    assert pickles.texts(found["names"], where="batch") == names


def zeros(count):
    """An archive's worth of zeros, a member that says it has so many."""
    info = tarfile.TarInfo("cifar-100-python/train")
    info.size = count
    return info.tobuf()


@pytest.mark.parametrize("opener", [gzip.open, bz2.open, lzma.open])
def test_an_archive_unpacks_to_so_much_and_no_more(tmp_path, monkeypatch, opener):
    monkeypatch.setattr(archives, "_LARGEST", 2**22)
    with opener(tmp_path / "a.tar", "wb") as stream:
        stream.write(zeros(2**40))
        for _ in range(8):
            stream.write(bytes(2**20))
    with pytest.raises(KdvizError, match="unpacks to more than 4194304 bytes"):
        archives.read(tmp_path / "a.tar", ["train"])


def test_a_long_name_in_an_archive_is_bounded_too(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST", 2**22)
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 2**40
    with gzip.open(tmp_path / "a.tar", "wb") as stream:
        stream.write(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**23))
    with pytest.raises(KdvizError, match="unpacks to more than"):
        archives.read(tmp_path / "a.tar", ["train"])


def test_an_archive_of_countless_members_is_refused(tmp_path):
    with gzip.open(tmp_path / "a.tar", "wb") as stream:
        stream.write(tarfile.TarInfo("x").tobuf() * 2000)
    with pytest.raises(KdvizError, match="more than 1000 members"):
        archives.read(tmp_path / "a.tar", ["train"])


def test_a_large_file_in_a_folder_is_not_read(tmp_path):
    with (tmp_path / "train").open("wb") as stream:
        stream.truncate(GIB)
    with pytest.raises(KdvizError, match=f"its files have {GIB} bytes"):
        archives.read(tmp_path, ["train"])


@pytest.mark.parametrize("zipped", [True, False])
def test_an_idx_header_claims_no_more_than_there_may_be(tmp_path, zipped):
    opener = gzip.open if zipped else open
    for sizes, message in (((2**16, 2**10, 28), "are not 1 to"), ((60000, 28, 28), "of 47040000 bytes; truncated")):
        with opener(tmp_path / "a", "wb") as stream:
            stream.write(b"\0\0\x08\x03" + struct.pack(">3I", *sizes) + bytes(2**20))
        with pytest.raises(KdvizError, match=message):
            idx.read(tmp_path / "a", 3)


def test_an_image_of_too_many_pixels_is_refused(tmp_path):
    Image.new("1", (10_000, 8_000)).save(tmp_path / "a.png")
    with pytest.raises(KdvizError, match="10000 x 8000 pixels"), files.opened(tmp_path / "a.png"):
        pass


def test_a_result_of_too_many_values_is_refused(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        file.create_dataset("ce", (2**40,), "f8", chunks=(2**10,), fillvalue=1.0)
    with pytest.raises(KdvizError, match="would take 8796093022208 bytes of memory"):
        read_dataset(tmp_path / "a.nc")


def test_an_expanded_tensor_of_terabytes_is_refused(tmp_path):
    torch.save({"fc.weight": torch.zeros(1).expand(2**20, 2**20), "fc.bias": torch.zeros(4)}, tmp_path / "a.pt")
    with pytest.raises(KdvizError, match=r"fc\.weight claims 4398046511104 bytes but the file holds 4 of it"):
        load_checkpoint(tmp_path / "a.pt")


class Call:
    """Pickled as the call of a function that torch's weights-only reader allows."""

    def __init__(self, function, *arguments):
        self.made = function, arguments

    def __reduce__(self):
        return self.made


CALLS = {
    "bytearray": Call(bytearray, 2**34),
    "set of a bytearray": Call(set, Call(bytearray, 2**34)),
    "tensor": Call(torch.Tensor, 2**34),
    "void scalar": Call(np._core.multiarray.scalar, np.dtype("V2000000000")),
}


@pytest.mark.parametrize("call", CALLS)
def test_a_call_that_makes_gigabytes_is_refused(tmp_path, call):
    torch.save({"model": {"fc.bias": torch.zeros(3)}, "extra": [CALLS[call]] * 1}, tmp_path / "a.pt")
    with pytest.raises(KdvizError, match=r"a\.pt: ") as caught:
        load_checkpoint(tmp_path / "a.pt")
    assert "memory" not in str(caught.value)


def test_the_commands_memory_stays_small(tmp_path):
    """The whole process, as a user sees it."""
    (tmp_path / "cifar-100-python").mkdir()
    for name in ("train", "test", "meta"):
        (tmp_path / "cifar-100-python" / name).write_bytes(PICKLES["memo"])
    code = (
        "import sys\nfrom kdviz import load_data\n"
        "try:\n    load_data('cifar100', root=sys.argv[1])\nexcept ValueError as error:\n    print(error)\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    line, peak = done.stdout.splitlines()
    assert "the memo's place" in line
    assert int(peak) < 1_000_000  # KiB


def test_an_archive_of_logits_that_unpacks_to_gigabytes_is_refused(tmp_path):
    from kdviz.analysis.sources import open_logits

    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**18, 2**10)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("logits_student.npy", "logits_teacher.npy"):
            with archive.open(name, "w", force_zip64=True) as stream:
                stream.write(header.getvalue())
                for _ in range(64):
                    stream.write(bytes(2**20))
    with pytest.raises(KdvizError, match=r"a\.npz"):
        open_logits(str(tmp_path / "a.npz"))
