"""Every device profile of the repository, against what all profiles promise."""

from __future__ import annotations

import pytest

from edgeai.profile import FIRST_TENSORRT_SM, L4T_LINES, load_profile, precisions_of_sm, profile_names

NAMES = profile_names()


def test_every_board_of_the_table_is_there():
    wanted = {
        *("jetson-nano", "jetson-nano-2gb", "jetson-tx2", "jetson-tx2-nx", "jetson-agx-xavier"),
        *("jetson-xavier-nx-8gb", "jetson-xavier-nx-16gb", "jetson-orin-nano-4gb", "jetson-orin-nano-8gb"),
        *("jetson-orin-nx-8gb", "jetson-orin-nx-16gb", "jetson-agx-orin-32gb", "jetson-agx-orin-64gb"),
        *("jetson-thor-t5000", "jetson-thor-t4000", "raspberry-pi-4", "raspberry-pi-5", "coral-usb"),
        *("x86", "x86-nvidia"),
    }
    assert set(NAMES) == wanted


@pytest.mark.parametrize("name", NAMES)
def test_facts_have_sources_and_memory_is_never_confirmed(name):
    profile = load_profile(name)
    assert profile.facts()
    for key, fact in profile.facts().items():
        assert fact.source.strip(), key
        if "from memory" in fact.source:
            assert fact.mark == "unconfirmed", key
        if "second-hand" in fact.source:
            assert fact.mark != "confirmed", key


@pytest.mark.parametrize("name", NAMES)
def test_what_the_gpu_lacks_is_not_promised(name):
    profile = load_profile(name)
    if profile.sm:
        assert set(profile.precisions.value) <= set(precisions_of_sm(profile.sm.value))
        assert ("plan" in profile.formats.value) <= (profile.sm.value >= FIRST_TENSORRT_SM)
    if profile.l4t and profile.soc:
        lines = L4T_LINES[profile.soc.value]
        assert {int(release.split(".")[0]) for release in profile.l4t.value} <= set(lines)


def test_recovery_ids_and_modules_tell_boards_apart():
    """Flashing picks the board by them: two profiles may share an id only where the module differs."""
    modules = [module for name in NAMES if (p := load_profile(name)).modules for module in p.modules.value]
    assert len(modules) == len(set(modules))


@pytest.mark.parametrize(
    ("name", "sm", "usb", "modes", "default"),
    [
        ("jetson-nano", 53, "0955:7f21", ("10W", "5W"), "10W"),
        ("jetson-orin-nano-8gb", 87, "0955:7523", ("15W", "7W"), "15W"),
        ("jetson-orin-nx-16gb", 87, "0955:7323", ("MAXN", "10W", "15W", "25W"), "15W"),
        ("jetson-agx-orin-64gb", 87, "0955:7023", ("MAXN", "15W", "30W", "50W"), "30W"),
        ("jetson-thor-t5000", 110, "0955:7026", ("MAXN", "120W"), None),
    ],
)
def test_facts_that_flashing_rests_on(name, sm, usb, modes, default):
    profile = load_profile(name)
    assert profile.sm.value == sm
    assert profile.recovery_usb.value == (usb,)
    assert profile.power_modes.value == modes
    assert (profile.power_mode_default.value if profile.power_mode_default else None) == default
