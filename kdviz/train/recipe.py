"""Training recipes: every setting of a run, from TOML and flags, checked before the first step."""

import tomllib
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from kdviz.base.check import KdvizError, require, unknown
from kdviz.train.optim import learning_rate

Scalar = bool | int | float | str
SettingValue = Scalar | list[Scalar] | None


class Recipe(BaseModel):
    """A training run's settings; unknown keys and values out of range are refused by name.

    Epochs count passes over the training split; `lr` is the peak after a linear warm-up; milestones and warm-up are in
    epochs. `holdout=False` trains on train + val, and then the last epoch is also called the best, because nothing is
    left to choose by but the test split. `score_every=N` also measures the test split every N epochs, for the journal
    alone: nothing is chosen by it. `features_at` and `teacher_features_at` name the modules whose maps methods of
    features see, for nets that do not return features by themselves.

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
    holdout: bool = True
    epochs: int = Field(8, gt=0, le=10**6)
    batch: int = Field(128, gt=1, le=10**6)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = Field(0.1, gt=0, le=1e6)
    momentum: float = Field(0.9, ge=0, lt=1)
    nesterov: bool = True
    weight_decay: float = Field(5e-4, ge=0, le=1e6)
    schedule: Literal["cosine", "step"] = "cosine"
    milestones: tuple[float, ...] = ()
    decay: float = Field(0.1, gt=0, le=1e6)
    min_lr: float = Field(0.0, ge=0, le=1e6)
    warmup: float = Field(1.0, ge=0, le=1e6)
    augment: Literal["crop", "none"] = "crop"
    features_at: tuple[str, ...] = ()
    teacher_features_at: tuple[str, ...] = ()
    seed: int = Field(0, ge=-(2**63), lt=2**63)
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    keep_epochs: int = Field(0, ge=0)
    score_every: int = Field(0, ge=0)
    settings: dict[str, SettingValue] = {}

    @field_validator("milestones")
    @classmethod
    def _rising(cls, milestones: tuple[float, ...]) -> tuple[float, ...]:
        if list(milestones) != sorted(milestones):
            raise ValueError("milestones must rise")
        return milestones

    def learning_rate(self, epoch: float) -> float:
        """The learning rate at a fractional epoch; see `kdviz.train.optim.learning_rate`."""
        settings = {key: getattr(self, key) for key in ("lr", "epochs", "warmup", "milestones", "decay", "min_lr")}
        return learning_rate(epoch, schedule=self.schedule, **settings)

    def result(self) -> dict[str, Any]:
        """The settings that decide the result, for the checkpoint and for telling runs apart."""
        return self.model_dump(mode="json", exclude={"keep_epochs", "score_every", "compile", "teacher"})


def recipes() -> dict[str, Path]:
    """The bundled recipes: name -> TOML file."""
    folder = Path(str(resources.files("kdviz"))) / "recipes"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_recipe(name: str | Path | None = None, **changes: Any) -> Recipe:
    """The bundled recipe `name` or the TOML file of that path, with `changes` (None: as it stands) on top.

    Where `changes` names another method than the file, the file's settings of terms that this method does not have are
    left out.

    Raises: KdvizError for an unknown recipe, unreadable TOML, an unknown setting or a value out of range.
    """
    table: dict[str, Any] = {}
    if name is not None:
        path = Path(name) if str(name).endswith(".toml") else recipes().get(str(name))
        if path is None:
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
        raise KdvizError(f"recipe: {where}: {first['msg']}, got {first['input']!r}") from error


def _settings_of(settings: dict[str, Any], own: str, other: str | None) -> dict[str, Any]:
    """A file's settings for its own method, less those of terms that the method `other`, named in its place, lacks."""
    if other is None or not settings:
        return settings
    from kdviz.losses import ALIASES
    from kdviz.methods import settings_in_force

    before, after = ({key.partition(".")[0] for key in settings_in_force(each)} for each in (own, other))
    return {key: value for key, value in settings.items() if _term(key, ALIASES) not in before - after}


def _term(key: str, aliases: Mapping[str, str]) -> str:
    term = key.partition(".")[0]
    return aliases.get(term, term)
