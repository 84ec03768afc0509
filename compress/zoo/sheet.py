"""models/zoo.toml: which data each model of the zoo is measured on."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field, RootModel

from compress.data.synthesize.machine import MachineSettings
from edgeai.bundle.manifest import Settings
from edgeai.errors import RecipeError, UsageError
from edgeai.faults import nearest_hint
from edgeai.settings_file import load_settings


class MadeMachine(MachineSettings):
    """Sounds of a machine made for measuring, as the recipe's data of kind "machine" is, but by another seed."""

    seed: Annotated[int, Field(ge=0)]


class Measure(Settings):
    """data: a folder below the data root, or the name of what `machine` makes. split: of it, which training has not seen.
    others: folders of sound without the wake word.
    """

    data: Annotated[str, Field(min_length=1)]
    split: Annotated[str, Field(min_length=1)]
    others: tuple[str, ...] = ()
    machine: MadeMachine | None = None

    def folder(self, root: Path, out: Path) -> Path:
        """Where the data is; made below `out` where it is to be made."""
        if self.machine is None:
            return root / self.data
        folder = out / self.data
        if folder.is_dir():  # of an earlier run, and perhaps of another sheet
            shutil.rmtree(folder)
        out.mkdir(parents=True, exist_ok=True)
        self.machine.make(folder, root, seed=self.machine.seed, split=self.split)
        return folder


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
