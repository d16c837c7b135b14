"""What a kdviz checkpoint may hold, field by field; checked when a file is opened and before one is written."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from torch import Tensor

from kdviz.base.check import KdvizError, require

FORMAT = 1
CLASSES = 1_000_000  # more than any data set has; ImageNet-21k has 21 843
LONGEST = 4096  # characters of a text
DEEPEST = 8  # mappings and lists inside each other
MOST = 10_000  # values in one field


def _text(value: str) -> str:
    if len(value) > LONGEST:
        raise ValueError(f"a text of {len(value)} characters, expected at most {LONGEST}")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise ValueError("a text with NUL or surrogate characters")
    return value


def _plain(value: Any) -> Any:
    """Refuse everything but nested mappings, lists, numbers, texts and None, and more of them than anybody needs."""
    _walk(value, where=(), left=[MOST])
    return value


class Misfit(ValueError):
    """A value of the wrong type, with the keys that lead to it."""

    def __init__(self, where: tuple[object, ...], message: str) -> None:
        super().__init__(f"in {'.'.join(map(str, where))}: {message}" if where else message)


def _walk(value: Any, *, where: tuple[object, ...], left: list[int]) -> None:
    left[0] -= 1
    if left[0] < 0:
        raise Misfit(where, f"more than {MOST} values")
    if isinstance(value, str):
        _text(value)
    elif type(value) is int and not -(2**63) <= value < 2**63:
        raise Misfit(where, "a whole number beyond 64 bits")
    elif isinstance(value, dict | list):
        if len(where) == DEEPEST:
            raise Misfit(where[:2], f"values nested more than {DEEPEST} deep")
        for key in value if isinstance(value, dict) else ():
            if not isinstance(key, str):
                raise Misfit(where, f"a key that is a {type(key).__name__}, expected a text")
            _text(key)
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            _walk(entry, where=(*where, key), left=left)
    elif type(value) not in (bool, int, float, type(None)):
        raise Misfit(where, f"a {type(value).__name__}, expected numbers, texts, lists and mappings")


Text = Annotated[str, AfterValidator(_text)]
Name = Annotated[Text, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, lt=2**63)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Plain = Annotated[dict[str, Any], BeforeValidator(_plain)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Record(BaseModel):
    """Values as they stand: a text is never taken for a number, nor a truth value."""

    model_config = ConfigDict(strict=True, extra="ignore", arbitrary_types_allowed=True)


class Scores(Record):
    """Of the best or the last epoch: top-1 as fractions, losses in nats."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, float | int | None]  # pyright: ignore[reportIncompatibleVariableOverride]
    epoch: Count | None = None
    top1: Fraction | None = None
    loss: float | None = None
    val_top1: Fraction | None = None
    val_loss: float | None = None


class Metrics(Record):
    """The scores of a run's two checkpoints, and of the epoch that the test split liked best where the run scored it
    (`--score-every`), and those of the weights' moving average (`--ema`); {} where nothing was measured."""

    model_config = ConfigDict(extra="forbid")
    best: Scores | None = None
    last: Scores | None = None
    best_test: Scores | None = None
    ema: Scores | None = None


class Teacher(Record):
    """The teacher's file, as the training found it."""

    path: Name
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    name: Text | None = None


class Normalization(Record):
    """Mean and standard deviation per channel that the net was trained with."""

    mean: Annotated[list[float], Field(min_length=1, max_length=64)]
    std: Annotated[list[Annotated[float, Field(gt=0)]], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _same_channels(self) -> "Normalization":
        if len(self.mean) != len(self.std):
            raise ValueError(f"{len(self.mean)} means but {len(self.std)} deviations")
        return self


class Recipe(Record):
    """What is read of a recipe, among settings of any name."""

    normalization: Normalization | None = None
    student_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    image_size: Annotated[int, Field(ge=8, le=4096)] | None = None
    settings: dict[str, Any] = {}


class Facts(Record):
    """What a checkpoint of any producer may state beside its weights; see `Checkpoint`."""

    data: Name | None = None
    method: Text | None = None
    seed: Whole | None = None
    epoch: Count | None = None
    which: Literal["last", "best", "ema"] | None = None
    recipe: Annotated[Recipe, BeforeValidator(_plain)] = Recipe()
    metrics: Annotated[Metrics, BeforeValidator(_plain)] = Metrics()
    teacher: Annotated[Teacher | None, BeforeValidator(_plain)] = None
    versions: Annotated[dict[Text, Text], Field(max_length=100)] = {}


class KdvizCheckpoint(Facts):
    """The whole file, as `save_checkpoint` writes it; every field must be there, and nothing else is read."""

    kdviz: Literal[1]
    name: Name
    classes: Annotated[int, Field(ge=1, le=CLASSES)]
    state_dict: dict[Text, Tensor]


def check_checkpoint(payload: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a kdviz checkpoint, as they stand in its payload, every one of its type.

    Raises: KdvizError, naming the first field that is missing or of another type, or a newer format.
    """
    written = payload.get("kdviz")
    require(type(written) is int, f"kdviz: expected the number of its format, got a {type(written).__name__}")
    require(
        written == FORMAT, f"written in kdviz checkpoint format {written}, but this kdviz reads {FORMAT}; update kdviz"
    )
    missing = [key for key in KdvizCheckpoint.model_fields if key not in payload]
    require(not missing, f"a kdviz checkpoint without {', '.join(missing)}")
    fields = {key: payload[key] for key in KdvizCheckpoint.model_fields}
    validate(KdvizCheckpoint, fields)
    return fields


def validate(model: type[Record], fields: dict[str, Any]) -> None:
    """Raise KdvizError that names the first field at fault, what was expected and what came."""
    try:
        model.model_validate(fields)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part not in ("[key]", "float", "int"))
        message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        came = first["input"]
        shown = repr(came)[:60] if isinstance(came, str | int | float | None) else f"a {type(came).__name__}"
        raise KdvizError(f"{where}: {message[0].lower()}{message[1:]}; got {shown}") from error
