"""One page over runs, results and reports: served on this machine, saved as a file, or shown in a notebook.

No module here imports torch; images of a data set are read by a process of their own (`kdviz.viewer.images`).
"""

from kdviz.viewer.saved import SavedPage, view

__all__ = ["SavedPage", "view"]
