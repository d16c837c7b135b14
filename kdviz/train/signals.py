"""Ctrl-C and SIGTERM between two steps, never in the middle of one: `kdviz.base.signals`."""

from kdviz.base.signals import stop_requested

__all__ = ["stop_requested"]
