"""How much of what others send is answered, and what is counted of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# refusals that are answered: a flood of bad messages must not become a flood of our own
REFUSALS_PER_S: Final = 10.0
REFUSAL_BURST: Final = 50.0


@dataclass(slots=True)
class CommandCounters:
    """Messages since the start. refused: answered with a reason. broken: without an id to answer to. repeated: ids
    seen before. unanswered: refusals beyond what is answered a second. faults: of this program.
    """

    received: int = 0
    accepted: int = 0
    refused: int = 0
    broken: int = 0
    repeated: int = 0
    unanswered: int = 0
    faults: int = 0
