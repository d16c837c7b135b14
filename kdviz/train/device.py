"""Where and in which precision a run computes."""

from contextlib import AbstractContextManager, nullcontext

import torch

from kdviz.base.check import KdvizError


def choose_device(name: str | None = None) -> torch.device:
    """`name`, or the first CUDA GPU, or the CPU. Raises KdvizError for a device that is not there."""
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
    """bf16 where the hardware multiplies it natively (elsewhere it is emulated and slower), else fp32."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return "bf16" if able.get("avx512_bf16") or able.get("amx_bf16") else "fp32"


def autocast(precision: str, device: torch.device) -> AbstractContextManager:
    """The autocast context of a precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()
