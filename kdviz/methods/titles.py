"""What figures call a method."""

from kdviz.losses import LOSSES
from kdviz.methods.method import METHODS

WRITTEN = {  # where capitals are not how it is written
    "detector": "detector",
    "fitnet": "FitNet",
    "fpn_fitnet": "FPN FitNet",
    "reviewkd": "ReviewKD",
    "roi_dkd": "RoI DKD",
    "roi_kd": "RoI KD",
    "roi_pld": "RoI PLD",
}


def method_title(spec: str) -> str | None:
    """The title of a method or of several joined by "+": each one's loss' title, how its paper writes it,
    or its name in capitals.

    Args: spec: names of `METHODS`; a student's label, which may be anything.

    Returns: None where a part is no method, so that a user's own name stays as it was written.

    >>> method_title("kd+rk"), method_title("list_mle"), method_title("roi_kd"), method_title("my_net")
    ('KD+RK', 'ListMLE', 'RoI KD', None)
    """
    parts = spec.split("+")
    if any(part not in METHODS for part in parts):
        return None
    written = {part: LOSSES[part].title if part in LOSSES else WRITTEN.get(part, part.upper()) for part in parts}
    return "+".join(written[part] for part in parts)
