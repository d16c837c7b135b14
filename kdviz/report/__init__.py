"""One self-contained HTML page per run or comparison; opens without a network."""

from kdviz.report.gather import Subject, gather
from kdviz.report.measure import measured
from kdviz.report.page import page

__all__ = ["Subject", "gather", "measured", "page"]
