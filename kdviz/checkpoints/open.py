"""The one door: a path in, a Checkpoint out."""

import os
from typing import Any

import torch

from kdviz.base.check import KdvizError, require
from kdviz.base.files import existing, sha256
from kdviz.checkpoints.kdviz import facts_of
from kdviz.checkpoints.record import Checkpoint
from kdviz.models import build


def load_checkpoint(path: str | os.PathLike, *, model: Any = None, classes: int | None = None) -> Checkpoint:
    """Draft: our own format."""
    found = existing(path, what="checkpoint")
    payload = torch.load(found, map_location="cpu", weights_only=True)
    require("kdviz" in payload, "not a kdviz checkpoint")
    facts = facts_of(payload)
    net = build(facts["name"], classes=facts["classes"], seed=0)
    try:
        net.load_state_dict(payload["state_dict"])
    except RuntimeError as error:
        raise KdvizError(f"{found}: {error}") from error
    return Checkpoint(path=found, model=net.eval(), producer="kdviz", sha256=sha256(found), **facts)
