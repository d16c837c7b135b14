"""The data set and the teacher that belong to a checkpoint."""

import os
import re
from contextlib import suppress

from kdviz.base.check import KdvizError, require
from kdviz.base.references import data_name
from kdviz.checkpoints import search
from kdviz.checkpoints.open import load_checkpoint
from kdviz.checkpoints.record import Checkpoint
from kdviz.checkpoints.references import PARTS, split_reference, teacher_file
from kdviz.checkpoints.run_folder import root_of
from kdviz.data import BoxData, Data, load_boxes, load_data
from kdviz.data.adapt import Adaptation, Constants, adapt, constants
from kdviz.data.external import named_by_file
from kdviz.models.detection import is_detector


def load_data_of(
    checkpoint: Checkpoint | None,
    name: str | None = None,
    *,
    root: str | os.PathLike | None = None,
    split: str = "test",
    adaptation: Adaptation | None = None,
) -> Data:
    """The data set `name`, or the one that the checkpoint was trained on.

    A folder or another data set without constants of its own is normalised as the net says it was trained: in its
    recipe, or in its `pretrained_cfg` or `default_cfg`, which timm's nets have.

    Args:
        checkpoint: the net; None where `name` is given.
        name: of `load_data` [default: the checkpoint's].
        root: folder of the files [default: of a checkpoint in its run's folder, the one that the run was trained from].
        split: train, val or test.
        adaptation: what of the data set is taken otherwise than it says.
    Raises:
        KdvizError: no data set is known; class counts that differ; as `load_data`.
    """
    chosen = name
    if checkpoint is not None and name is None and root is None:
        root = root_of(checkpoint.path)
    if name is None and checkpoint is not None and checkpoint.data is not None:
        chosen = data_name(named_by_file(checkpoint.data, where=checkpoint.path), checkpoint.path)
    if chosen is None:
        raise KdvizError("the checkpoint does not say its data set; name one with --data (see: kdviz list data)")
    data = load_data(chosen, split=split, root=root)
    classes, own = (checkpoint.classes, own_constants(checkpoint)) if checkpoint is not None else (None, None)
    data = adapt(data, adaptation or Adaptation(), classes=classes, own=own)
    if checkpoint is not None:
        subset = "; with --channels they can be some of the net's" if data.classes < checkpoint.classes else ""
        require(
            data.classes == checkpoint.classes,
            f"{checkpoint.path} has {checkpoint.classes} classes but {chosen} has {data.classes};"
            f" was it trained on another data set? name that one with --data{subset}",
        )
    return data


def load_boxes_of(
    checkpoint: Checkpoint, name: str | None = None, *, root: str | os.PathLike | None = None, split: str = "test"
) -> BoxData:
    """The data set of boxes `name`, or the one that a detector's checkpoint was trained on.

    Args:
        checkpoint: of the detector.
        name: of `load_boxes` [default: the checkpoint's].
        root: folder of the files [default: the one that its run was trained from].
        split: train, val or test.
    Raises: KdvizError: no data set is known; class counts that differ; as `load_boxes`.
    """
    if name is None:
        require(checkpoint.data, f"{checkpoint.path} does not say its data set; name one with --data")
        name, root = str(checkpoint.data), root if root is not None else root_of(checkpoint.path)
    data = load_boxes(name, split=split, root=root)
    require(
        data.classes == checkpoint.classes,
        f"{checkpoint.path} finds {checkpoint.classes} classes but {name} has {data.classes}; name its own with --data",
    )
    return data


def load_measured_of(
    checkpoint: Checkpoint,
    name: str | None = None,
    *,
    root: str | os.PathLike | None = None,
    split: str = "test",
    adaptation: Adaptation | None = None,
) -> Data | BoxData:
    """What a net is measured on: as `load_data_of`, of a detector as `load_boxes_of`.

    Args: checkpoint, name, root, split, adaptation as `load_data_of`.
    Raises: KdvizError as those two, and for an adaptation of a detector's data.
    """
    if not is_detector(checkpoint.name):
        return load_data_of(checkpoint, name, root=root, split=split, adaptation=adaptation)
    plain = adaptation in (None, Adaptation())
    require(plain, f"{checkpoint.path}: --mean, --std, --channels and --damaged are not for detectors' data")
    return load_boxes_of(checkpoint, name, root=root, split=split)


def own_constants(checkpoint: Checkpoint) -> Constants | None:
    """(mean, std) that the net was trained with, as far as its file or the net itself says (timm's nets do)."""
    net = checkpoint.model
    said = (checkpoint.recipe.get("normalization"), checkpoint.recipe)
    cfg = (getattr(net, "pretrained_cfg", None), getattr(net, "default_cfg", None))
    return next((found for one in (*said, *cfg) if (found := constants(one)) is not None), None)


def load_teacher(path: str | os.PathLike, model: str | None = None) -> Checkpoint:
    """The net at `path` as a teacher: of a file that holds a student and its teacher, the teacher.

    Args:
        path: as `load_checkpoint`; "FILE@student" names the student of such a file.
        model: its architecture, where the file does not say.
    """
    opened = load_checkpoint(path, model=model)
    both = split_reference(path)[1] not in PARTS and search.names_teacher(opened.dropped)
    return load_checkpoint(f"{opened.path}@teacher", model=model) if both else opened


def load_teacher_of(
    checkpoint: Checkpoint, path: str | os.PathLike | None = None, *, model: str | None = None
) -> Checkpoint | None:
    """The teacher at `path`, or the one that the checkpoint refers to (beside it, sha256 checked) or holds, or None.

    Args:
        checkpoint: the student.
        path: as `load_teacher`.
        model: the teacher's architecture, where its file does not say [default: what the student's file says of it].
    Raises:
        KdvizError: a teacher that is not where the checkpoint says, or another file.
    """
    if path is not None:
        return load_teacher(path, model)
    if not checkpoint.teacher:
        inside = checkpoint.part is None and search.names_teacher(checkpoint.dropped)
        return load_checkpoint(f"{checkpoint.path}@teacher", model=model) if inside else None
    found = teacher_file(checkpoint)
    said = str(checkpoint.teacher.get("name"))  # of another library: what its own file does not say
    stated = said if said.startswith(("timm:", "torchvision:")) else None
    return None if found is None else load_checkpoint(found, model=model or stated)


def load_untaught_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """The net beside a student that was trained in its place without a teacher, or None.

    It is the file whose name, or whose run's name, has "ce" where the student's has its method ("resnet8_kd.pt" and
    "resnet8_ce.pt", "kd_seed0/last.pt" and "ce_seed0/last.pt"), if it holds the same architecture, trained by
    cross-entropy on the same data.
    """
    path, method = checkpoint.path, checkpoint.method
    if method in (None, "ce"):
        return None
    word = re.compile(rf"(?<![A-Za-z0-9+]){re.escape(str(method))}(?![A-Za-z0-9+])")
    folder = path.absolute().parent
    places = [path.with_name(word.sub("ce", path.name))]
    places += [folder.with_name(word.sub("ce", folder.name)) / path.name] if folder.name else []
    for place in places:
        if place.is_file() and place.absolute() != path.absolute():
            with suppress(KdvizError):
                found = load_checkpoint(place)
                same = (found.name, found.data, found.classes) == (checkpoint.name, checkpoint.data, checkpoint.classes)
                if same and found.method == "ce":
                    return found
    return None
