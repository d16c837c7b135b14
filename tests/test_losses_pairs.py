"""The sums over pairs of channels: blocks and compiled kernel against the plain formula, and what they hold."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from kdviz.losses import fused, pairwise, rank_kendall
from kdviz.losses.pairwise import blocked, textbook

FORMS = {
    1: lambda dt, ds, half: np.tanh(half * dt) * np.tanh(half * ds),
    2: lambda dt, ds, half: np.tanh(half * dt * ds),
    3: lambda dt, ds, half: np.sign(dt) * np.tanh(half * ds),
}


def nets(n, k, dtype=torch.float64):
    generator = torch.Generator().manual_seed(k)
    student, teacher = (torch.randn(n, k, generator=generator, dtype=dtype) for _ in range(2))
    teacher[:, 0] = teacher[:, -1]  # a tie
    return student, teacher


@pytest.mark.parametrize("half", [0.5, 1000.0])  # with the second, exponentials would leave their range
@pytest.mark.parametrize("k", [2, 3, 4, 7, 10, 33, 64])
@pytest.mark.parametrize("form", [1, 2, 3])
def test_blocks_and_formula_agree(form, k, half):
    student, teacher = nets(5, k)
    ds, dt = (net[:, :, None].numpy() - net[:, None, :].numpy() for net in (student, teacher))
    plain, slope = textbook(student, teacher, form, half)
    np.testing.assert_allclose(plain, FORMS[form](dt, ds, half).sum((1, 2)) / 2, atol=1e-10)
    for pairs in (None, 1, 3 * k, 40 * k):  # all at once, a pair, some distances, some samples at once
        value, found = blocked(student, teacher, form, half, pairs=pairs)
        torch.testing.assert_close(value, plain, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(found, slope, atol=1e-10 * half, rtol=1e-10)
    value, none = blocked(student, teacher, form, half, gradient=False)
    torch.testing.assert_close(value, plain, atol=1e-10, rtol=1e-10)
    assert none.numel() == 0


@pytest.fixture
def threads():
    kept = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(kept)


@pytest.mark.parametrize("form", [1, 2, 3])
def test_the_number_of_threads_changes_no_digit(form, threads):
    student, teacher = nets(37, 200)
    found = []
    for count in (1, 2, 3):
        threads(count)
        with torch.autocast("cpu", dtype=torch.bfloat16):  # a thread of its own would not know of it
            found.append(blocked(student, teacher, form, 0.5))
    torch.testing.assert_close(found[0], textbook(student, teacher, form, 0.5), atol=1e-9, rtol=1e-9)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


def test_losses_in_threads_keep_gradients_inference_mode_and_vmap(threads):
    threads(2)
    student, teacher = nets(24, 120)
    assert torch.autograd.gradcheck(
        lambda x: rank_kendall(x, teacher), student.clone().requires_grad_(), fast_mode=True
    )
    expected = rank_kendall(student, teacher)
    with torch.inference_mode():
        assert rank_kendall(student.clone(), teacher.clone()) == expected
    several = torch.vmap(rank_kendall, in_dims=(0, None))(torch.stack([student, student.flip(0)]), teacher)
    assert several[0] == pytest.approx(float(expected), rel=1e-12)


def test_each_thread_holds_one_block_whatever_the_samples(threads, monkeypatch):
    """Buffers are kept for the next piece of the same thread; no tensor elsewhere has all pairs of a sample."""
    made, real = [], pairwise._buffers
    monkeypatch.setattr(pairwise, "_buffers", lambda *rest: made.append(real(*rest)) or made[-1])
    threads(2)
    for n in (64, 256):
        made.clear()
        blocked(*nets(n, 300, torch.float32), 1, 0.5)
        assert all(each.a.numel() <= 2 * pairwise.BLOCK for each in made)
        assert len(made) <= 2 * 4, "for each thread, blocks and the last one, of whole pieces and of the last one"


class Largest(TorchDispatchMode):
    """The size of the largest storage that any operation gave, in bytes."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for each in out if isinstance(out, tuple | list) else (out,):
            if isinstance(each, torch.Tensor):
                self.bytes = max(self.bytes, each.untyped_storage().nbytes())
        return out


@pytest.mark.parametrize("form", [1, 2, 3])
def test_no_tensor_of_all_pairs_is_ever_held(form):
    n, k = 16, 768
    student, teacher = nets(n, k, torch.float32)
    with Largest() as largest:
        rank_kendall(student.requires_grad_(), teacher, form=form).backward()
    assert n * k * 4 <= largest.bytes < n * k * k * 4 / 4


@pytest.fixture
def plain_kernel(monkeypatch):
    """The formula in the compiler's place, which notes the shapes that it is given."""
    calls = []

    def kernel(*arguments):
        calls.append(tuple(arguments[0].shape))
        assert not arguments[0].requires_grad
        assert not arguments[0].is_inference()
        return textbook(*arguments)

    monkeypatch.setattr(fused, "_kernel", lambda: kernel)
    return calls


def test_the_fused_kernel_gets_few_rows_at_once_and_leaves_long_ones_to_the_blocks(plain_kernel, monkeypatch):
    monkeypatch.setattr(fused, "PAIRS", 500)
    for n, k, shapes in (
        (7, 10, [(4, 10), (3, 10)]),
        (5, 10, [(5, 10)]),
        (9, 11, [(3, 11)] * 3),
        (1, 4, []),
        (6, 12, []),
    ):
        plain_kernel.clear()
        student, teacher = nets(n, k)
        with torch.inference_mode():
            value, slope = fused.fused(student.clone(), teacher.clone(), 1, 0.5)
        assert plain_kernel == shapes
        expected = textbook(student, teacher, 1, 0.5)
        torch.testing.assert_close((value.clone(), slope.clone()), expected, atol=1e-10, rtol=1e-10)


def test_without_a_compiler_it_goes_on_in_blocks_and_says_so_once(monkeypatch):
    def broken(*arguments):
        raise RuntimeError("backend raised:\nno compiler here\nand much more")

    monkeypatch.setattr(fused, "_kernel", lambda: broken)
    monkeypatch.setattr(fused, "_failed", [])
    student, teacher = nets(3, 6)
    with pytest.warns(UserWarning, match="going on in blocks: backend raised: no compiler here$"):
        first = fused.fused(student, teacher, 2, 0.5)
    second = fused.fused(student, teacher, 2, 0.5)  # another warning would be an error
    torch.testing.assert_close(first, textbook(student, teacher, 2, 0.5))
    torch.testing.assert_close(first, second)


@pytest.mark.gpu
@pytest.mark.filterwarnings("default", "error:rank_kendall")
@pytest.mark.parametrize("form", [1, 2, 3])
@pytest.mark.parametrize(("n", "k"), [(64, 1000), (512, 1000), (2, 16384)])
def test_a_gpu_holds_no_pairs_never_waits_and_has_the_same_numbers(form, n, k):
    def step(student, teacher):
        student = student.detach().requires_grad_()
        value = rank_kendall(student, teacher, form=form)
        value.backward()
        return value.detach(), student.grad

    student, teacher = (net.cuda() for net in nets(n, k, torch.float32))
    step(student, teacher)  # compiles
    torch.cuda.synchronize()
    held = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    torch.cuda.set_sync_debug_mode("error")
    try:
        value, slope = step(student, teacher)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.cuda.max_memory_allocated() - held < n * k * k * 4 / 4
    rows = slice(0, 2)  # the rest costs a CPU too long
    part = step(student[rows], teacher[rows])
    expected = step(student[rows].double().cpu(), teacher[rows].double().cpu())
    torch.testing.assert_close(part[0].double().cpu(), expected[0], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(part[1].double().cpu(), expected[1], atol=1e-7, rtol=1e-3)
    torch.testing.assert_close(slope[rows] * n / 2, part[1], atol=1e-7, rtol=1e-3)
    assert torch.isfinite(value)
