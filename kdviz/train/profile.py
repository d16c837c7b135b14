"""A trace of a few training steps, for chrome://tracing or ui.perfetto.dev."""

from pathlib import Path
from types import TracebackType

import torch
from torch.profiler import ProfilerActivity, profile, schedule

from kdviz.base.check import require
from kdviz.base.files import atomic

SKIPPED, WARMUP = 3, 2  # steps before the recorded ones: compilation, allocation; then the profiler's own start


class StepTrace:
    """The record of `steps` steps after five that settle; written when they are done, or on leaving early.

    Call `step()` after each training step.

    Args:
        path: of the trace (JSON); a table of the costliest operations is written beside it, as .txt.
        steps: how many are recorded.
        skipped: steps before the profiler starts to warm up.

    Attributes:
        done: whether the files are written, so that the caller may stop.

    Example:
        with StepTrace(folder / "trace.json") as trace:
            for batch in batches:
                train_step(batch)
                trace.step()
    """

    def __init__(self, path: Path, *, steps: int = 10, skipped: int = SKIPPED) -> None:
        require(steps > 0, f"profile: the number of steps must be above 0, got {steps}")
        self.path, self.done = path, False
        self._seen, self._before = 0, skipped + WARMUP
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._by = "self_cuda_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
        plan = schedule(wait=skipped, warmup=WARMUP, active=steps, repeat=1)
        self._profile = profile(activities=activities, schedule=plan, on_trace_ready=self._write, record_shapes=True)

    def step(self) -> None:
        """The end of a step."""
        self._seen += 1
        if not self.done:
            self._profile.step()

    def __enter__(self) -> "StepTrace":
        self._profile.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._profile.stop()
        if kind is None:
            require(
                self.done,
                f"profile: the run has only {self._seen} steps, all of them before the recorded ones begin"
                f" (after {self._before}); train longer",
            )

    def _write(self, finished: profile) -> None:
        if self.done or self._seen < self._before:
            return
        with atomic(self.path) as partial:
            finished.export_chrome_trace(str(partial))
        table = finished.key_averages().table(sort_by=self._by, row_limit=20, max_name_column_width=60)
        with atomic(self.path.with_suffix(".txt")) as partial:
            partial.write_text(table)
        self.done = True
