"""Collecting logits from nets and reading them from anywhere; bad input in one line each."""

import pickle
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from torch import nn

from kdviz.analysis.logits import collect_logits, load_logits
from kdviz.analysis.sources import chunks, open_logits
from kdviz.base.check import KdvizError
from kdviz.base.files import write_dataset
from kdviz.cli.app import main
from kdviz.data.base import Data


def tiny(n=23, classes=5):
    generator = torch.Generator().manual_seed(0)
    return Data(
        name="tiny",
        split="test",
        images=torch.randint(0, 256, (n, 3, 4, 4), generator=generator, dtype=torch.uint8),
        labels=torch.arange(n) % classes,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
        class_names=tuple("abcdefghij"[:classes]),
        ids=torch.arange(n) * 2,
    )


class Net(nn.Module):
    """Batch normalisation, dropout and a part that its owner has put in training mode."""

    def __init__(self, classes=5, seed=0):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.body = nn.Sequential(nn.BatchNorm2d(3), nn.Dropout(0.5), nn.Flatten(), nn.Linear(48, classes))

    def forward(self, images):
        return self.body(images)


def arrays(n=20, k=6, seed=0):
    generator = np.random.default_rng(seed)
    return generator.standard_normal((n, k)), generator.standard_normal((n, k)), generator.integers(0, k, n)


def test_logits_are_the_nets_own():
    data, student, teacher = tiny(), Net(seed=1), Net(seed=2)
    dataset = collect_logits(student, data, teacher=teacher, batch=7)
    pixels = (data.images.double() / 255 - torch.tensor(data.mean).double().view(3, 1, 1)) / torch.tensor(
        data.std
    ).double().view(3, 1, 1)
    for name, net in (("logits_student", student), ("logits_teacher", teacher)):
        normed = pixels / (1 + net.body[0].eps) ** 0.5  # fresh batch norm: mean 0, variance 1
        expected = normed.flatten(1) @ net.body[3].weight.double().T + net.body[3].bias.double()
        np.testing.assert_allclose(dataset[name], expected.detach(), atol=1e-5)
    assert dataset.sizes == {"sample": 23, "channel": 5}
    assert dataset.sample.values.tolist() == list(range(0, 46, 2))
    assert dataset.class_name.values.tolist() == list("abcde")
    assert dataset.target.values.tolist() == data.labels.tolist()
    assert dataset.attrs["data_sha256"] == data.sha256


def test_the_nets_are_left_as_they_were():
    net = Net().train()
    net.body[1].eval()
    net.body[3].weight.requires_grad_(False)
    modes = [module.training for module in net.modules()]
    before = {name: value.clone() for name, value in net.state_dict().items()}
    collect_logits(net, tiny(), teacher=net)
    assert [module.training for module in net.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert [parameter.requires_grad for parameter in net.parameters()] == [True, True, False, True]
    with pytest.raises(RuntimeError):
        collect_logits(net, [(torch.zeros(1, 3, 9, 9), torch.zeros(1, dtype=torch.int64))])
    assert [module.training for module in net.modules()] == modes


def test_any_loader_and_known_teacher_logits():
    data = tiny()
    first = collect_logits(Net(seed=1), data, teacher=Net(seed=2))
    seen = []
    again = collect_logits(
        Net(seed=1),
        list(data.batches(9)),
        teacher=first.logits_teacher,
        label="mine",
        progress=lambda *at: seen.append(at),
    )
    np.testing.assert_array_equal(first.logits_teacher, again.logits_teacher)
    np.testing.assert_allclose(first.logits_student, again.logits_student, atol=1e-6)
    assert again.attrs["label"] == "mine"
    assert seen == [(9, 0), (18, 0), (23, 0)]
    assert "logits_teacher" not in collect_logits(Net(), data)


def test_class_counts_that_differ():
    with pytest.raises(KdvizError, match=r"\(23, 5\) but the teacher's \(23, 7\).*different data sets"):
        collect_logits(Net(), tiny(), teacher=Net(classes=7))
    with pytest.raises(KdvizError, match=r"labels span 0\.\.4 but the net has 3 classes"):
        collect_logits(Net(classes=3), tiny())


def sources(folder):
    """The same logits in every form that is read."""
    s, t, y = arrays()
    write_dataset(
        xr.Dataset(
            {
                "logits_student": (("sample", "channel"), s),
                "logits_teacher": (("sample", "channel"), t),
                "target": ("sample", y),
            },
            attrs={"kind": "logits", "label": "kd"},
        ),
        folder / "a.nc",
    )
    np.savez(folder / "a.npz", logits_student=s, logits_teacher=t, target=y)
    np.savez(folder / "b.npz", student=s, teacher=t, labels=y)
    for name, array in (("s", s), ("t", t), ("y", y)):
        np.save(folder / f"{name}.npy", array)
        torch.save(torch.from_numpy(array), folder / f"{name}.pt")
    torch.save({"student": torch.from_numpy(s), "teacher": torch.from_numpy(t), "target": y.tolist()}, folder / "x.pt")
    torch.save(
        {"student": torch.from_numpy(s), "teacher": torch.from_numpy(t), "y": torch.from_numpy(y)}, folder / "d.pt"
    )
    torch.save((torch.from_numpy(s), torch.from_numpy(t), torch.from_numpy(y)), folder / "e.pt")
    files = [folder / name for name in ("a.nc", "a.npz", "b.npz", "d.pt", "e.pt", "x.pt")]
    lists = [",".join(str(folder / f"{name}.{suffix}") for name in "sty") for suffix in ("npy", "pt")]
    halves = [(s[:11], t[:11], y[:11]), (s[11:], t[11:], y[11:])]
    return [*files, *lists, (s, t, y), tuple(map(torch.from_numpy, (s, t, y))), halves, lambda: iter(halves)]


def test_every_source_gives_the_same_logits(tmp_path):
    s, t, y = arrays()
    for source in sources(tmp_path):
        loaded = load_logits(source)
        np.testing.assert_array_equal(loaded.logits_student, s)
        np.testing.assert_array_equal(loaded.logits_teacher, t)
        np.testing.assert_array_equal(loaded.target, y)
        assert loaded.sample.values.tolist() == list(range(20))
    assert open_logits(tmp_path / "a.nc").attrs["label"] == "kd"
    assert open_logits(tmp_path / "a.nc", label="mine").attrs["label"] == "mine"


def test_files_are_read_in_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("kdviz.analysis.sources.NUMBERS", 7 * 6)
    for source in sources(tmp_path)[:8]:
        sizes = [len(chunk.student) for chunk in chunks(open_logits(source), who="test")]
        assert sizes == [7, 7, 6]


def replaced(where, value):
    parts = [np.array(part, dtype=float if place < 2 else int) for place, part in enumerate(arrays())]
    parts[where[0]][where[1:]] = value
    return tuple(parts)


BAD = {
    "logits_student is (20, 6) but logits_teacher is (20, 5)": (arrays()[0], arrays()[1][:, :5]),
    "20 samples of the student's logits but 19 of the teacher's": (arrays()[0], arrays()[1][:19]),
    "20 samples of the student's logits but 3 of labels": (*arrays()[:2], np.arange(3)),
    "NaN or Inf in 1 of the student's 20 samples; leave them out with --drop-nonfinite": replaced((0, 3, 2), np.nan),
    "NaN or Inf in 2 of the teacher's 20 samples": replaced((1, slice(4, 6)), np.inf),
    "1 labels outside 0..5 (they span": replaced((2, 0), 6),
    "(they span -1": replaced((2, 0), -1),
    "labels must be whole numbers": (*arrays()[:2], np.zeros(20)),
    "needs 2 samples or more, got 1": tuple(part[:1] for part in arrays()),
    "no samples": tuple(part[:0] for part in arrays()),
    "logits must be [n, channels], got (20,)": (np.zeros(20), np.zeros(20)),
    "logits must be real numbers, got torch.int64": (np.zeros((20, 3), int), np.zeros((20, 3), int)),
    "logits have 1 channel; two": (np.zeros((20, 1)), np.zeros((20, 1))),
    "logits of a student: tau needs the teacher's logits too; name its": xr.Dataset(
        {"logits_student": (("sample", "channel"), arrays()[0])}
    ),
    "samples 20.. have 5 channels, those before 6": [arrays()[:2], (arrays()[0][:, :5], arrays()[1][:, :5])],
    "holds no logits_student; a result of kind 'tau'?": xr.Dataset(attrs={"kind": "tau"}),
    "cannot read a int": 3,
}


@pytest.mark.parametrize("message", BAD)
def test_bad_logits_are_refused(message):
    with pytest.raises(KdvizError) as caught:
        list(chunks(open_logits(BAD[message]), who="tau"))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_dropping_what_is_not_finite():
    s, t, y = replaced((0, 3, 2), np.nan)
    t[7, 0] = np.inf
    tally = {}
    kept = torch.cat([chunk.ids for chunk in chunks(open_logits((s, t, y)), who="x", drop_nonfinite=True, tally=tally)])
    assert kept.tolist() == [index for index in range(20) if index not in (3, 7)]
    assert tally == {"samples": 18, "dropped": 2}
    assert load_logits((s, t, y), drop_nonfinite=True).sample.values.tolist() == kept.tolist()
    with pytest.raises(KdvizError, match=r"1 of the student's and 1 of the teacher's 20 samples"):
        load_logits((s, t, y))


class Bomb:
    def __reduce__(self):
        return (print, ("boom",))


def broken(folder):
    (folder / "empty.npz").touch()
    (folder / "text.npz").write_text("not a zip")
    (folder / "half.npz").write_bytes(b"PK\x03\x04 and then nothing")
    (folder / "text.nc").write_text("not netCDF")
    (folder / "text.pt").write_text("not torch")
    (folder / "greeting.pt").write_text("hello")  # whose letters are commands of pickle
    torch.save({"student": {"weight": torch.ones(2)}, "teacher": {"weight": torch.ones(2)}}, folder / "nets.pt")
    (folder / "bomb.pt").write_bytes(pickle.dumps(Bomb()))
    np.save(folder / "object.npy", np.array([Bomb()]), allow_pickle=True)
    np.save(folder / "one.npy", np.zeros((3, 3)))
    np.savez(folder / "other.npz", features=np.zeros(3))
    return {
        "gone.npz": "logits not found",
        "empty.npz": "the file is empty",
        "text.npz": "not logits",
        "half.npz": "not logits",
        "text.nc": "not a kdviz result",
        "text.pt": "weights_only=True",
        "greeting.pt": "weights_only=True",
        "nets.pt": "expected arrays of logits, got a dict; is it a checkpoint?",
        "bomb.pt": "weights_only=True",
        "object.npy": "not logits",
        "one.npy": "one array alone; name two, the student's first",
        "other.npz": "expected the arrays logits_student and logits_teacher (and target), got features",
    }


def test_broken_files_end_in_one_line(tmp_path, capsys):
    for name, message in broken(tmp_path).items():
        with pytest.raises(KdvizError) as caught:
            open_logits(tmp_path / name)
        assert message in str(caught.value), name
        assert "\n" not in str(caught.value)
    assert "boom" not in capsys.readouterr().out


def stray_bytes(count):
    generator = np.random.default_rng(0)
    for _ in range(count):
        yield generator.integers(0, 256, generator.integers(1, 60), dtype=np.uint8).tobytes()
        yield generator.integers(32, 127, generator.integers(1, 60), dtype=np.uint8).tobytes()


def test_no_bytes_end_in_a_traceback(tmp_path):
    file = tmp_path / "stray.pt"
    for content in stray_bytes(150):
        file.write_bytes(content)
        with pytest.raises(KdvizError):
            open_logits(file)


def run(monkeypatch, capsys, *arguments):
    """Exit code, stdout and stderr of `kdviz`, in this process."""
    monkeypatch.setattr(sys, "argv", ["kdviz", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    told = capsys.readouterr()
    return code, told.out, told.err


def test_commands_take_a_pt_of_logits_by_name(tmp_path, monkeypatch, capsys):
    s, t, y = map(torch.from_numpy, arrays())
    torch.save({"student": s, "teacher": t, "labels": y}, tmp_path / "mine.pt")
    for name in ("histogram", "tau", "suboptimal"):
        code, _, told = run(monkeypatch, capsys, name, tmp_path / "mine.pt", "--format", "png", "-o", tmp_path / "out")
        assert (code, told) == (0, "")
        assert (tmp_path / "out" / f"{name}.nc").is_file()


def test_commands_refuse_before_they_measure(tmp_path, monkeypatch, capsys):
    s, t, y = arrays()
    np.savez(tmp_path / "mine.npz", student=s, teacher=t, labels=y)
    for wrong, message in (
        (["--venue", "nature"], "venue must be one of icml, cvpr, neurips, iclr, tmlr, got 'nature'"),
        (["--format", "bmp"], "format must be one of pdf, png, svg, got 'bmp'"),
    ):
        for name in ("histogram", "tau", "suboptimal"):
            code, out, told = run(monkeypatch, capsys, name, tmp_path / "mine.npz", "-o", tmp_path / "out", *wrong)
            assert (code, out, told.count("\n")) == (1, "", 1)
            assert message in told
        code, _, told = run(monkeypatch, capsys, "surface", "-o", tmp_path / "out", *wrong)
        assert code == 1
        assert message in told
    code, _, told = run(monkeypatch, capsys, "tau", tmp_path / "mine.npz", "--style", "bars", "-o", tmp_path / "out")
    assert (code, told) == (1, "kdviz: unknown figure of a tau 'bars'; known: breakdown, distribution\n")
    assert not (tmp_path / "out").exists()


def test_a_users_wrapper_is_the_net_and_no_checkpoint():
    class Twice(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return 2 * self.model(images)

    inner = Net()
    once, twice = (collect_logits(net, tiny()).logits_student.values for net in (inner, Twice(inner)))
    np.testing.assert_allclose(twice, 2 * once, rtol=1e-5)
    with pytest.raises(KdvizError, match="expected a net or a checkpoint, got str"):
        collect_logits("resnet8", tiny())
