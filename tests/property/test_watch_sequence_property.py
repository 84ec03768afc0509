"""Any interleaving of repetitions and reorderings gives the counts that a set of all numbers would."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeai.sinks.watch.sequence import MAX_NUMBER, SequenceTracker

NUMBERS = st.lists(st.integers(0, 60) | st.integers(0, MAX_NUMBER), max_size=120)


@given(NUMBERS)
def test_counts_are_those_of_a_set(numbers):
    tracker = SequenceTracker()
    seen, late = set(), 0
    for number in numbers:
        highest = max(seen, default=number)
        arrival = tracker.see(number)
        if number in seen:
            assert arrival == ("duplicate", 0)
        elif seen and number < highest:
            late += 1
            assert arrival == ("late", 0)
        else:
            assert arrival == ("new", number - highest - 1 if seen else 0)
        seen.add(number)
    assert (tracker.received, tracker.duplicates, tracker.late) == (len(seen), len(numbers) - len(seen), late)
    assert tracker.missing == (max(seen) - min(seen) + 1 - len(seen) if seen else 0)
    assert tracker.exact
    for number in range(62):
        assert tracker.is_missing(number) == bool(
            seen and min(seen) < number < max(seen) and number not in seen
        )


@given(st.permutations(range(30)), st.lists(st.integers(0, 29), max_size=20))
def test_everything_once_in_any_order_leaves_nothing_missing(order, again):
    tracker = SequenceTracker()
    for number in [*order, *again]:
        tracker.see(number)
    assert (tracker.received, tracker.duplicates, tracker.missing) == (30, len(again), 0)


@given(NUMBERS, st.integers(1, 5))
def test_memory_is_bounded_and_nothing_is_counted_twice(numbers, max_holes):
    tracker = SequenceTracker(max_holes=max_holes)
    for number in numbers:
        tracker.see(number)
        assert len(tracker._starts) == len(tracker._ends) <= max_holes
        assert all(start <= end for start, end in zip(tracker._starts, tracker._ends, strict=True))
    different = len(set(numbers))
    assert tracker.received + tracker.duplicates + tracker.old == len(numbers)
    assert tracker.received <= different
    if numbers:
        span = tracker.highest - tracker.lowest + 1
        # what was given up is told as missing though it may have come after all
        assert tracker.missing == span - tracker.received
        assert tracker.exact or tracker.old >= different - tracker.received


@pytest.mark.parametrize("number", [-1, MAX_NUMBER + 1])
def test_other_numbers_are_no_sequence_numbers(number):
    with pytest.raises(ValueError, match="sequence number"):
        SequenceTracker().see(number)
