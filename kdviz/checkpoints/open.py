"""A path in, a Checkpoint out: the only place where files of weights are opened."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from kdviz.base.check import KdvizError, existing, one_of, require
from kdviz.base.files import sha256
from kdviz.checkpoints import foreign, search
from kdviz.checkpoints.instantiate import instantiate
from kdviz.checkpoints.read import read_file
from kdviz.checkpoints.record import Checkpoint
from kdviz.checkpoints.references import PARTS, split_reference
from kdviz.checkpoints.run_folder import checkpoint_file
from kdviz.checkpoints.schema import CLASSES, Facts, check_checkpoint, validate
from kdviz.data.adapt import constants
from kdviz.models.detection import at_size, is_detector
from kdviz.models.external import is_external
from kdviz.models.view import see

HUGGING_FACE = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")
WEIGHTS = ("raw", "ema")
SUFFIXES = (".pt", ".pth", ".ckpt", ".tar", ".safetensors", ".bin")


def load_checkpoint(
    path: str | os.PathLike,
    *,
    model: str | nn.Module | None = None,
    classes: int | None = None,
    weights: str | None = None,
) -> Checkpoint:
    """The net in a checkpoint of any known producer, and what the file says of it.

    Opened are files of kdviz, mdistiller, RepDistiller, CTKD, DIST_KD, timm, torchvision, torchdistill, mmrazor and
    Lightning, bare state_dicts (zip, legacy, safetensors) and folders of Hugging Face. Nothing in a file is ever run.

    Args:
        path: the file, Hugging Face's folder, or a run's folder, of which the last epoch is opened. After an "@" it may
            say its architecture, as `model` does ("net.pth@timm:resnet10t"), or which of two nets in it is meant:
            "best@teacher", "best@student" [default: the student].
        model: the architecture, where the file does not say and its shapes are of no net of `MODELS`: a name for
            `kdviz.models.build`, or a net of yours, of which a copy is filled.
        classes: the class count that the file must have [default: whatever it has].
        weights: "raw", as trained, or "ema", averaged over the steps, where a file has both [default: raw, where the
            file has them]. What an average does not follow, such as running statistics, is taken from the raw weights.

    Returns: a `Checkpoint`; its net in eval mode, on the CPU, in float32.

    Raises: KdvizError, in one line, for a file that is missing, truncated, hostile or no checkpoint, whose tensors fit
        no net, that has another class count, or whose weights are not finite.
    """
    named, word = split_reference(path)
    part = word if word in PARTS else None
    model = word if word and model is None and part is None else model
    found = checkpoint_file(existing(named, what="checkpoint"))
    if weights is not None:
        one_of("load_checkpoint", WEIGHTS, weights=weights)
    require(classes is None or 1 <= classes <= CLASSES, f"classes must be 1 to {CLASSES}, got {classes}")
    file, config = _folder(found) if found.is_dir() else (found, {})
    payload = read_file(file)
    try:
        if isinstance(payload, Mapping) and "kdviz" in payload:
            require(part != "teacher", "holds the student alone; name its teacher's own file")
            require(weights != "ema", "a kdviz checkpoint holds one set of weights; leave --weights ema out")
            return _ours(found, payload, model, classes)
        if part == "teacher":
            state = search.teacher_state(payload)
            require(state, "holds no teacher's weights")
            opened = _foreign(found, file, state, {}, model, classes, None)
            digest = hashlib.sha256(f"{opened.sha256} teacher".encode()).hexdigest()
            return replace(opened, part=part, sha256=digest)
        return _foreign(found, file, payload, config, model, classes, weights)
    except KdvizError as error:
        raise KdvizError(f"{found}: {error}") from error


def _ours(path: Path, payload: Mapping[str, Any], model: str | nn.Module | None, classes: int | None) -> Checkpoint:
    facts = check_checkpoint(payload)
    name, stated, state = facts.pop("name"), facts.pop("classes"), facts.pop("state_dict")
    facts.pop("kdviz")
    filled = instantiate(state, model=model or _architecture(name), classes=classes, stated=stated)
    recipe = facts["recipe"]
    if size := recipe.get("student_size"):
        see(filled.net, size=size)
    if is_detector(filled.name) and (size := recipe.get("image_size")):
        at_size(filled.net, size, **(recipe.get("normalization") or {}))
    return Checkpoint(
        path=path,
        model=filled.net,
        name=filled.name,
        classes=filled.classes,
        producer="kdviz",
        sha256=sha256(path),
        dropped=filled.dropped,
        **facts,
    )


def _architecture(name: str) -> str:
    """A file's own word for its net, which may choose among known nets but never name code to import."""
    if not is_external(name) or name.startswith(("timm:", "torchvision:")):
        return name
    raise KdvizError(
        f"names its model {name!r}, and a file never chooses code to import;"
        f" if you trust that function, name it yourself: FILE@{name} (in Python: model={name!r})"
    )


def _foreign(
    path: Path,
    file: Path,
    payload: Any,
    config: Mapping[str, Any],
    model: str | nn.Module | None,
    classes: int | None,
    weights: str | None = None,
) -> Checkpoint:
    found = foreign.parse(payload, weights)
    architecture = config.get("architecture")  # timm's; other libraries' configurations build no net of a timm name
    claims = [foreign.claim("timm", architecture)] if isinstance(architecture, str) else found.claims
    filled = instantiate(found.state, model=model, classes=classes, claims=claims)
    digest = sha256(file)
    facts = found.facts
    if (own := constants(config.get("pretrained_cfg"))) is not None:  # timm's
        mean, std = ([float(one) for one in values] for values in own)
        facts = facts | {"recipe": {**facts["recipe"], "normalization": {"mean": mean, "std": std}}}
        validate(Facts, facts)
    return Checkpoint(
        path=path,
        model=filled.net,
        name=filled.name,
        classes=filled.classes,
        # results of averaged weights are never taken for those of the raw ones in the same file
        sha256=digest if found.weights == "raw" else hashlib.sha256(f"{digest} ema".encode()).hexdigest(),
        producer="Hugging Face" if config else found.producer,
        dropped=[*filled.dropped, *found.dropped],
        weights=found.weights,
        **facts,
    )


def _folder(path: Path) -> tuple[Path, dict[str, Any]]:
    """The weights and the configuration in a folder of Hugging Face's layout."""
    weights = next((path / name for name in HUGGING_FACE if (path / name).is_file()), None)
    if weights is None or not (path / "config.json").is_file():
        names = sorted(entry.name for entry in path.iterdir() if entry.suffix in SUFFIXES)
        listed = f"name a file in it: {', '.join(names[:6])}" if names else "there is no checkpoint in it"
        raise KdvizError(f"{path}: is a folder without config.json and model.safetensors; {listed}")
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise KdvizError(f"{path / 'config.json'}: is not JSON ({error})") from error
    require(isinstance(config, dict) and config, f"{path / 'config.json'}: holds no settings")
    return weights, config
