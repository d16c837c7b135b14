"""What figures call a method."""

from kdviz.losses import LOSSES
from kdviz.methods.method import METHODS


def method_title(spec: str) -> str | None:
    """The title of a method or of several joined by "+": each one's loss' title, or its name in capitals.

    Args: spec: names of `METHODS`; a student's label, which may be anything.

    Returns: None where a part is no method, so that a user's own name stays as it was written.

    >>> method_title("kd+rk"), method_title("list_mle"), method_title("my_net")
    ('KD+RK', 'ListMLE', None)
    """
    parts = spec.split("+")
    if any(part not in METHODS for part in parts):
        return None
    return "+".join(LOSSES[part].title if part in LOSSES else part.upper() for part in parts)
