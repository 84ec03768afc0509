"""The rounds of a pass that are done, kept in the working folder: a run that is killed goes on with the next round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from compress.networks.keras_file import keras_network, save_network
from compress.passes.bench import Bench
from compress.passes.settings import PassSettings
from edgeai.errors import EdgeError
from edgeai.whole_file import write_whole

SUFFIX = "rounds.json"


class KeptRounds:
    """Of one attempt at a pass. What another recipe, other data or other settings left there does not count."""

    def __init__(self, settings: PassSettings, bench: Bench) -> None:
        self._key = [bench.fingerprint, settings.model_dump(mode="json")]
        self._index = bench.work / f"{bench.step}-{SUFFIX}"

    def load(self) -> tuple[Any, dict[str, Any]] | None:
        """The network after the last round that is done, and what `save` was told; None where there is none."""
        try:
            content = json.loads(self._index.read_text())
            if content["key"] != self._key:
                return None
            return keras_network(self._network(int(content["round"]))), content["told"]
        except (OSError, ValueError, KeyError, TypeError, EdgeError):  # absent or not ours: made anew
            return None

    def save(self, number: int, network: Any, told: dict[str, Any]) -> None:
        """Keep `network` as it is after round `number`. told: JSON. The one before is kept until this one is whole."""
        save_network(network, self._network(number))
        write_whole(self._index, json.dumps({"key": self._key, "round": number, "told": told}))
        self._network(number - 1).unlink(missing_ok=True)

    def _network(self, number: int) -> Path:
        return self._index.with_name(f"{self._index.name.removesuffix(SUFFIX)}round-{number}.keras")
