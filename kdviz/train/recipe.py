"""Training recipes: every setting of a run, from TOML and flags, checked before the first step."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from kdviz.base.check import KdvizError, require, unknown
from kdviz.train.optim import learning_rate

Scalar = bool | int | float | str
SettingValue = Scalar | list[Scalar] | None


class Recipe(BaseModel):
    """A training run's settings; unknown keys and values out of range are refused by name.

    Attributes:
        method, student, teacher: what is trained, and the file of the teacher's checkpoint.
        drop_path: how often the last block's branch is left out in training, for nets with drop-path.
        student_size, teacher_size: side in pixels that each net sees the same view at, resized for that net alone.
        teacher_normalization: "data": both nets see one normalised batch, and the teacher must have been trained with
            the same constants; "own": the view is normalised anew for the teacher by its checkpoint's constants.
        data, limit: the data set, and how many of its training images to use.
        holdout: "split" keeps the data set's own val out of train; "none" trains on all that is not test, and then the
            last epoch is also called the best, because nothing is left to choose by; a fraction keeps so much of all
            training images for val.
        epochs: passes over the training split.
        iterations: steps of the whole run of a detector, a multiple of epochs; an epoch is then so many steps, whatever
            number of images that is.
        batch: images in one update.
        accumulate: equal parts that a batch is computed in, one after another, to save memory.
        optimizer: "sgd", "adam", "adamw", a name of pytorch-optimizer, or "timm:NAME"; lr is the peak, after a linear
            warm-up; milestones and warmup are in epochs.
        no_decay: no weight decay of biases, normalisation and what the net names.
        clip_grad: the largest norm of all gradients together; 0: not clipped.
        ema: decay of the weights' moving average, which is measured and saved beside; 0: none.
        label_smoothing: of the cross-entropy's targets.
        augment: "crop" (4 pixels of padding, flip), "resized_crop" (a box of random area and shape, flip), "none", or
            "flip" (of detectors).
        image_size: side in pixels of resized_crop; of detectors, of the images' shorter side [default: the data set's].
        resized_scale: smallest and largest area of that box, as fractions of the image.
        rand_augment: two random operations on each image, then a grey square.
        colour_jitter: largest relative change of brightness, contrast and saturation.
        mixup, cutmix: alpha of each, 0: off; with both, one of them for each batch.
        random_erasing: how often a box of an image is erased.
        eval_crop: side of the central square that is measured, as a fraction of the image's shorter side; for images in
            files that are larger than the nets see.
        features_at, teacher_features_at: modules whose maps methods of features see, for nets that do not return
            features by themselves.
        precision: "fp32", "tf32" (of NVIDIA GPUs), "bf16", "fp16" (with a loss scaler), or "auto".
        backbone: of detectors, the file of a classifier whose weights the backbone starts from.
        trainable_layers: of a backbone from a file, how many of its five stages are trained, from the last one
            [default: 3 of a ResNet, all of MobileNetV2].
        frozen_bn: whether all batch normalisation of a backbone from a file keeps its statistics and weights
            [default: true]. Both defaults are those of the code behind DKD's published detectors.
        sync_bn: batch normalisation sees the images of all processes of torchrun, not those of its own alone.
        score_every: also measure the test split every N epochs, for the journal alone: nothing is chosen by it.

    Source: the recipes of methods.md's papers are in kdviz/recipes; the defaults are ours, for glyphs100 on two cores.

    >>> Recipe(method="kd", epochs=3).epochs
    3
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str = "ce"
    student: str = "resnet8"
    teacher: str | None = None
    data: str = "glyphs100"
    limit: int | None = Field(None, gt=0, le=2**31)
    holdout: bool | float = True
    epochs: int = Field(8, gt=0, le=10**6)
    batch: int = Field(128, gt=1, le=10**6)
    optimizer: str = "sgd"
    lr: float = Field(0.1, gt=0, le=1e6)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0, le=1e6)
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[float, ...] = ()
    decay: float = Field(0.1, gt=0, le=1e6)
    min_lr: float = Field(0.0, ge=0, le=1e6)
    warmup: float = Field(1.0, ge=0, le=1e6)
    augment: Literal["crop", "resized_crop", "flip", "none"] = "crop"
    features_at: tuple[str, ...] = ()
    teacher_features_at: tuple[str, ...] = ()
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    precision: Literal["auto", "fp32", "tf32", "bf16", "fp16"] = "auto"
    compile: bool = False
    keep_epochs: int = Field(0, ge=0)
    score_every: int = Field(0, ge=0)
    settings: dict[str, SettingValue] = {}

    # Settings that came later: left out of a record at their defaults, so that earlier records stay comparable.
    drop_path: float = Field(0.0, ge=0, lt=1)
    student_size: int | None = Field(None, ge=8, le=4096)
    teacher_size: int | None = Field(None, ge=8, le=4096)
    teacher_normalization: Literal["data", "own"] = "data"
    accumulate: int = Field(1, gt=0, le=10**6)
    no_decay: bool = False
    clip_grad: float = Field(0.0, ge=0, le=1e6)
    ema: float = Field(0.0, ge=0, lt=1)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    image_size: int | None = Field(None, ge=8, le=4096)
    resized_scale: tuple[float, float] = (0.08, 1.0)
    rand_augment: bool = False
    colour_jitter: float = Field(0.0, ge=0, le=1)
    mixup: float = Field(0.0, ge=0, le=100)
    cutmix: float = Field(0.0, ge=0, le=100)
    random_erasing: float = Field(0.0, ge=0, le=1)
    eval_crop: float = Field(0.875, gt=0, le=1)
    sync_bn: bool = False
    iterations: int | None = Field(None, gt=0, le=10**9)
    backbone: str | None = None
    trainable_layers: int | None = Field(None, ge=0, le=5)
    frozen_bn: bool | None = None

    @field_validator("milestones", "features_at", "teacher_features_at", mode="before")
    @classmethod
    def _listed(cls, value: Any) -> Any:
        """A single value as a list of one, as `--set` has it."""
        return (value,) if isinstance(value, str | int | float) and not isinstance(value, bool) else value

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(milestones):
            raise ValueError("milestones must rise")
        return milestones

    @field_validator("holdout", mode="before")
    @classmethod
    def _holdout(cls, holdout: Any) -> bool | float:
        """ "split" and "none" as True and False, which earlier records hold."""
        named = {"split": True, "none": False}.get(holdout, holdout) if isinstance(holdout, str) else holdout
        try:
            value = named if isinstance(named, bool) else float(named)
        except (TypeError, ValueError):
            value = -1.0
        if not isinstance(value, bool) and not 0 < value < 1:
            raise ValueError("must be none, split, or a fraction between 0 and 1")
        return value

    @field_validator("resized_scale")
    @classmethod
    def _areas(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ValueError("must be two fractions of the image's area, 0 < smallest <= largest <= 1")
        return scale

    @model_validator(mode="after")
    def _agrees(self) -> "Recipe":
        if self.batch % self.accumulate or self.batch // self.accumulate < 2:
            raise ValueError(f"accumulate: {self.batch} images cannot be cut into {self.accumulate} equal parts of two")
        if self.iterations is not None and self.iterations % self.epochs:
            raise ValueError(f"iterations: {self.iterations} steps cannot be cut into {self.epochs} epochs")
        return self

    def learning_rate(self, epoch: float) -> float:
        """The learning rate at a fractional epoch; see `kdviz.train.optim.learning_rate`."""
        settings = {key: getattr(self, key) for key in ("lr", "epochs", "warmup", "milestones", "decay", "min_lr")}
        return learning_rate(epoch, schedule=self.schedule, **settings)

    def result(self) -> dict[str, Any]:
        """The settings that decide the result, for the checkpoint and for telling runs apart."""
        without = {"keep_epochs", "score_every", "compile", "teacher", "backbone", *OF_BACKBONES}
        plain = self.model_dump(mode="json", exclude=without)
        default = Recipe.model_validate({}).model_dump(mode="json")
        found = {key: value for key, value in plain.items() if key not in LATER or value != default[key]}
        return {**found, **self.backbone_settings} if self.backbone is not None else found

    @property
    def backbone_settings(self) -> dict[str, Any]:
        """`trainable_layers` and `frozen_bn` as they are in force with a backbone from a file, and with one alone."""
        usual = 5 if "mobilenet" in self.student else 3
        layers = usual if self.trainable_layers is None else self.trainable_layers
        return dict(zip(OF_BACKBONES, (layers, self.frozen_bn is not False), strict=True))

    @property
    def expects_backbone(self) -> bool:
        """Whether it says how a backbone from a file is trained: its source starts from such a one."""
        return any(getattr(self, key) is not None for key in OF_BACKBONES)

    @property
    def mixes(self) -> bool:
        """Whether a training image may hold part of another one."""
        return self.mixup > 0 or self.cutmix > 0

    @property
    def views_are_countable(self) -> bool:
        """Whether what a net sees of an image is one of the few crops that a teacher's table holds."""
        changed = self.rand_augment or self.colour_jitter or self.random_erasing or self.mixes
        return self.augment != "resized_crop" and not changed


_names = list(Recipe.model_fields)
OF_BACKBONES = ("trainable_layers", "frozen_bn")
LATER = frozenset(_names[_names.index("settings") + 1 :])


# Recipe settings that `kdviz train` takes as options of the same name; it takes the others by --set.
OPTIONS = ("method", "student", "data", "seed", "epochs", "batch", "optimizer", "lr", "weight_decay", "schedule")
OPTIONS = (*OPTIONS, "warmup", "limit", "precision")


def as_words(key: str, value: Any) -> list[str]:
    """A recipe setting as words of `kdviz train`.

    >>> as_words("weight_decay", 0.05), as_words("teacher_normalization", "own")
    (['--weight-decay', '0.05'], ['--set', 'teacher_normalization=own'])
    """
    from kdviz.methods.settings import as_text

    if key in OPTIONS:
        return [f"--{key.replace('_', '-')}", str(value)]
    return ["--set", f"{key}={as_text(value)}"]


def recipes() -> dict[str, Path]:
    """The bundled recipes: name -> TOML file."""
    folder = Path(str(resources.files("kdviz"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str | Path | None = None, **changes: Any) -> Recipe:
    """The bundled recipe `name` or the TOML file of that path, with `changes` (None: as it stands) on top.

    Where `changes` names another method than the file, the file's settings of terms that this method does not have are
    left out. So is the file's weight of cross-entropy, which balances the labels against the terms beside it, where the
    method has other terms than the file or the labels alone.

    Raises: KdvizError for an unknown recipe, unreadable TOML, an unknown setting or a value out of range.
    """
    table: dict[str, Any] = {}
    if name is not None:
        path = Path(name) if str(name).endswith(".toml") else recipes().get(str(name))
        if path is None:
            require(":" not in str(name), f"{name} is no recipe; a data set is named by --data {name}")
            raise unknown("recipe", name, recipes())
        require(path.is_file(), f"recipe not found: {path}")
        try:
            table = tomllib.loads(path.read_text())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise KdvizError(f"{path}: not TOML: {error}") from error
    table.pop("about", None)
    changed = {key: value for key, value in changes.items() if value is not None}
    kept = _settings_of(table.pop("settings", {}), table.get("method", "ce"), changed.get("method"))
    settings = {**kept, **changed.pop("settings", {})}
    try:
        return Recipe(**{**table, **changed, "settings": settings})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise unknown("recipe setting", where, Recipe.model_fields) from error
        message = first["msg"].removeprefix("Value error, ")
        raise KdvizError(
            f"recipe: {where}: {message}, got {first['input']!r}" if where else f"recipe: {message}"
        ) from error


def _settings_of(settings: dict[str, Any], own: str, other: str | None) -> dict[str, Any]:
    """A file's settings for its own method, less those that are not for the method `other`, named in its place."""
    if other is None or not settings:
        return settings
    from kdviz.losses import ALIASES
    from kdviz.methods import settings_in_force

    before, after = ({key.partition(".")[0] for key in settings_in_force(each)} for each in (own, other))
    kept = {key: value for key, value in settings.items() if _term(key, ALIASES) not in before - after}
    if after == {"ce"} or after - before:
        kept.pop("ce.weight", None)
    return kept


def _term(key: str, aliases: Mapping[str, str]) -> str:
    term = key.partition(".")[0]
    return aliases.get(term, term)
