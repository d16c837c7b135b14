"""What losses of stage maps do to their lists of maps before the formula."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

from kdviz.base.check import require
from kdviz.losses.inputs import wide

Maps = Sequence[Tensor]


def map_pairs(who: str, features_student: Maps, features_teacher: Maps) -> list[tuple[Tensor, Tensor]]:
    """Both nets' maps stage by stage, checked, in float32 at least, the teacher's detached.

    Args:
        who: the loss, for the message.
        features_student, features_teacher: as many maps `[n, c, h, w]` of the same n samples; sizes and widths may
            differ between the nets.

    Raises: KdvizError for a wrong shape or type, or nets whose numbers of stages differ.
    """
    some_maps(who, features_student=features_student, features_teacher=features_teacher)
    require(
        len(features_student) == len(features_teacher),
        f"{who}: the student has {len(features_student)} stages but the teacher has {len(features_teacher)};"
        " choose nets with as many stages, or name the maps to compare (--features-at)",
    )
    pairs = zip(features_student, features_teacher, strict=True)
    return [map_pair(who, student, teacher) for student, teacher in pairs]


def some_maps(who: str, **features: Maps) -> None:
    """Refuse a net without maps, by name."""
    for name, maps in features.items():
        require(
            len(maps) > 0,
            f"{who}: {name} has no maps; expected one [n, c, h, w] per stage: use a net of `kdviz list models`,"
            " or name the modules that give them (--features-at)",
        )


def map_pair(who: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """One stage's maps `[n, c, h, w]`, as `map_pairs` returns them."""
    for name, maps in (("features_student", student), ("features_teacher", teacher)):
        require(
            maps.ndim == 4 and maps.numel() > 0,
            f"{who}: {name} must be maps [samples, channels, height, width], got {tuple(maps.shape)}",
        )
        require(maps.is_floating_point(), f"{who}: {name} must be floating point, got {maps.dtype}")
    require(
        len(student) == len(teacher),
        f"{who}: features_student has {len(student)} samples but features_teacher has {len(teacher)};"
        " were they computed on the same batch?",
    )
    student = wide(student)
    return student, teacher.detach().to(student.dtype)


def pooled_alike(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps at the smaller of the two sizes, the larger one averaged down to it."""
    sizes = [tuple(maps.shape[2:]) for maps in (student, teacher)]
    height, width = (min(side) for side in zip(*sizes, strict=True))
    small = [
        maps if size == (height, width) else functional.adaptive_avg_pool2d(maps, (height, width))
        for maps, size in zip((student, teacher), sizes, strict=True)
    ]
    return small[0], small[1]
