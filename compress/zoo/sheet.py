"""models/zoo.toml: which data each model of the zoo is measured on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel

from edgeai.bundle.manifest import Settings
from edgeai.errors import RecipeError, UsageError
from edgeai.faults import nearest_hint
from edgeai.settings_file import load_settings


class Measure(Settings):
    """data: a folder below the data root. split: of it, which training has not seen."""

    data: Annotated[str, Field(min_length=1)]
    split: Annotated[str, Field(min_length=1)]

    def folder(self, root: Path) -> Path:
        return root / self.data


class _Sheet(RootModel[dict[str, Measure]]):
    pass


@dataclass(frozen=True, slots=True)
class ZooModel:
    """folder: the bundle's."""

    name: str
    folder: Path
    measure: Measure


def load_zoo(models: Path, only: tuple[str, ...] = ()) -> list[ZooModel]:
    """The models that `models`/zoo.toml lists, in its order. only: names; all without.

    Raises RecipeError for what is wrong in the file, UsageError for a name that it does not know.
    """
    sheet = load_settings(
        models / "zoo.toml", _Sheet, error=RecipeError, what="zoo sheet", next_step="give the zoo's folder"
    ).root
    for name in only:
        if name not in sheet:
            raise UsageError(
                f"there is no model {name!r} in {models / 'zoo.toml'}", next_step=nearest_hint(name, sheet)
            )
    return [ZooModel(name, models / name, one) for name, one in sheet.items() if not only or name in only]
