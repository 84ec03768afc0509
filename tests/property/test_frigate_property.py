"""Whatever walks in front of the camera, Frigate's readers see every object begin and end once, and counts that add up."""

import happenings
from frigate_reader import FrigateReader
from happenings import ZONE
from hypothesis import given
from hypothesis import strategies as st

from edgeai.sinks.dialects.frigate import FrigateComposer
from edgeai.sinks.dialects.settings import FrigateSettings

STEPS = st.lists(
    st.dictionaries(st.integers(1, 4), st.tuples(st.integers(0, 1), st.floats(0.06, 0.94)), max_size=4),
    min_size=1,
    max_size=12,
)


@given(order=st.permutations(["line", "zone", "track"]), steps=STEPS)
def test_objects_and_counts(order, steps):
    compose = FrigateComposer(FrigateSettings(), happenings.facts(*order))
    rules = happenings.rules(*order)
    reader, labels = FrigateReader(), {}
    alive = {}
    for time_s, places in enumerate([*steps, {}]):
        # a track keeps its class, and one that is not seen any more has ended
        here = {track: (labels.setdefault(track, class_id), x) for track, (class_id, x) in places.items()}
        ended = tuple(track for track in alive if track not in here)
        for track in ended:
            del labels[track]
        alive = here
        for rule in rules:
            for event in rule.update(happenings.scene(float(time_s), here, ended=ended)):
                for draft in compose(event):
                    reader.hear(draft.topic, draft.body)
        open_now = [one for one in reader.objects.values() if one["end_time"] is None]
        assert len(open_now) == len(here)
        assert reader.counts.get("gate/all", 0) == len(here)
        for class_id, label in enumerate(happenings.LABELS):
            expected = sum(labels[track] == class_id for track in here)
            assert reader.counts.get(f"gate/{label}", 0) == expected
        zone = next(rule for rule in rules if rule.settings.name == ZONE)
        assert reader.counts.get(f"{ZONE}/all", 0) == zone.totals()["occupancy"]
        assert sum(ZONE in one["current_zones"] for one in open_now) == zone.totals()["occupancy"]
        assert reader.switches.get("gate/motion", False) is bool(here)
