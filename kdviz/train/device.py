"""Where and in which precision a run computes."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

from kdviz.base.check import KdvizError, require
from kdviz.base.processes import local_device, rank_and_world


def choose_device(name: str | None = None) -> torch.device:
    """`name`, or the first CUDA GPU, or the CPU; this rank's GPU for None and "cuda" under torchrun.

    Raises: KdvizError for a device that is not there.
    """
    if rank_and_world()[1] > 1 and name in (None, "cuda"):
        name = local_device() if name is None or torch.cuda.is_available() else name
    if name is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        if device.type == "meta":
            raise NotImplementedError("it computes nothing")
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise KdvizError(f"device {name!r} is not available: {str(error).splitlines()[0]}") from error
    return device


def choose_precision(wanted: str, device: torch.device) -> str:
    """bf16 where the hardware multiplies it natively (elsewhere it is emulated and slower), else fp32.

    Raises: KdvizError for tf32 without an NVIDIA GPU.
    """
    require(wanted != "tf32" or device.type == "cuda", f"precision tf32 is of NVIDIA GPUs; {device} has fp32 and bf16")
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The autocast context of a precision."""
    half = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    return nullcontext() if half is None else torch.autocast(device.type, half)


def loss_scaler(precision: str, device: torch.device) -> torch.amp.GradScaler:
    """The scaler of the loss in float16; in every other precision one that changes nothing."""
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


@contextmanager
def arithmetic(precision: str) -> Iterator[None]:
    """The settings of CUDA's convolutions and products for a precision, for the length of a run.

    TensorFloat-32 is used in "tf32" alone; kernels are chosen without timing them, so that a resumed run uses the same.
    """
    products, tf32 = torch.backends.cuda.matmul.allow_tf32, precision == "tf32"
    try:
        torch.backends.cuda.matmul.allow_tf32 = tf32
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = products
