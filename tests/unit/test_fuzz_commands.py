"""Two thousand messages that must change nothing; `python tests/fuzz_commands.py` gives a hundred thousand."""

from __future__ import annotations

import pytest
from fuzz_commands import MAKERS, fuzz_commands


@pytest.mark.parametrize("seed", [0, 1])
def test_malformed_messages_change_nothing(seed):
    counts = fuzz_commands(1000, seed)
    assert (counts["state_changes"], counts["crashes"], counts["bad_answers"]) == (0, 0, 0)
    assert counts["received"] == 1000
    # each kind of end was met, and no message was lost between them
    assert min(counts["accepted"], counts["refused"], counts["broken"]) > 0
    assert counts["answers"] == counts["refused"] + counts["accepted"]
    assert counts["said_at_once"] == 0


def test_every_kind_is_made():
    assert len({maker.__name__ for maker, _ in MAKERS}) == 19
