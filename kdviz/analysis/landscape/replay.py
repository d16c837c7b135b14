"""Work on a GPU recorded once and replayed, so that a small net does not wait for its kernels to be launched."""

from collections.abc import Callable

import torch
from torch import Tensor


def recorded(work: Callable[[], Tensor], device: torch.device) -> Callable[[], Tensor]:
    """`work` as one CUDA graph; what cannot be recorded (a net that looks at its values) stays as it is.

    Args:
        work: reads tensors that stay where they are in memory; only their values change between calls.
        device: a CUDA device.
    Returns:
        A function whose tensor is overwritten by its next call.
    Source: torch.cuda.CUDAGraph.
    """
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.device(device):
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries choose and allocate in the first calls, which a graph cannot hold
            for _ in range(3):
                work()
        torch.cuda.current_stream().wait_stream(aside)
        try:
            with torch.cuda.graph(graph):
                result = work()
        except RuntimeError:
            return work

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
