"""Rules by the kind that a configuration gives: tracks become events and counts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from pydantic import Field

from edgeai.stages.rules.line import LineRule, LineSettings
from edgeai.stages.rules.rule import Rule, Scene
from edgeai.stages.rules.track import TrackRule, TrackSettings
from edgeai.stages.rules.zone import ZoneRule, ZoneSettings

__all__ = [
    "RULES",
    "AnyRuleSettings",
    "LineRule",
    "LineSettings",
    "Rule",
    "Scene",
    "TrackRule",
    "TrackSettings",
    "ZoneRule",
    "ZoneSettings",
    "open_rule",
]

AnyRuleSettings: TypeAlias = Annotated[
    LineSettings | ZoneSettings | TrackSettings, Field(discriminator="kind")
]
"""What a configuration holds for one rule."""

# the settings' kind -> the rule they open
RULES: dict[str, type[LineRule] | type[ZoneRule] | type[TrackRule]] = {
    "line": LineRule,
    "zone": ZoneRule,
    "track": TrackRule,
}


def open_rule(settings: LineSettings | ZoneSettings | TrackSettings, *, labels: Sequence[str]) -> Rule:
    """The rule for its settings. Raises StageError where a class is not among `labels`."""
    rule: Rule = RULES[settings.kind](settings, labels=labels)  # type: ignore[arg-type]
    return rule
