"""Profiles that are wrong are refused, with the place and the nearest right thing."""

from __future__ import annotations

import pytest

from edgeai.errors import ProfileError
from edgeai.profile import list_profiles, load_profile, match_profile, precisions_of_sm, profile_names

FACT = '{{ value = {}, source = "a test", mark = "confirmed" }}'
MINIMAL = {"precisions": '["int8"]', "formats": '["tflite"]'}
JETSON = MINIMAL | {
    "soc": '"t234"',
    "sm": "87",
    "modules": '["3767-0003"]',
    "flash_configs": '["x"]',
    "recovery_usb": '["0955:7523"]',
    "l4t": '["36.5.0"]',
}


def write(folder, facts, *, head="", family="x86", name="mine"):
    path = folder / "mine.toml"
    lines = [f'name = "{name}"', 'title = "t"', f'family = "{family}"', head]
    path.write_text("\n".join([*lines, *(f"{key} = {FACT.format(value)}" for key, value in facts.items())]))
    return path


def test_a_file_of_ones_own_loads(tmp_path):
    profile = load_profile(write(tmp_path, JETSON, family="jetson"))
    assert profile.sm.value == 87
    assert profile.unconfirmed == ()


@pytest.mark.parametrize(
    ("facts", "family", "says"),
    [
        (MINIMAL | {"precision": '["int8"]'}, "x86", "unknown key 'precision'; did you mean 'precisions'?"),
        (MINIMAL | {"cpu_cores": "0"}, "x86", "cpu_cores.value"),
        (MINIMAL | {"cpu_cores": '"four"'}, "x86", "cpu_cores.value"),
        (MINIMAL | {"precisions": "[]"}, "x86", "precisions.value"),
        (MINIMAL | {"precisions": '["fp8"]'}, "x86", "precisions.value.0"),
        (MINIMAL | {"precisions": '["int8", "int8"]'}, "x86", "precisions lists a value twice"),
        (MINIMAL | {"usb_ids": '["0955-7523"]'}, "x86", "usb_ids.value.0"),
        (MINIMAL | {"formats": '["plan"]'}, "x86", "format 'plan' needs a GPU"),
        (MINIMAL | {"l4t": '["36.5.0"]'}, "x86", "l4t belongs to family 'jetson' only"),
        (MINIMAL, "jetson", "family 'jetson' needs soc"),
        (JETSON | {"precisions": '["float8"]'}, "jetson", "compute capability 87 lacks float8"),
        (JETSON | {"sm": "53"}, "jetson", "compute capability 53 lacks int8"),
        (JETSON | {"l4t": '["38.2"]'}, "jetson", "L4T 38.2 does not support t234"),
        (JETSON | {"soc": '"t264"', "l4t": '["38.2"]', "dla_cores": "1"}, "jetson", "t264 has no DLA"),
        (JETSON | {"power_mode_default": '"15W"'}, "jetson", "power_mode_default '15W' is not among"),
        (
            JETSON | {"super_power_modes": '["A"]', "super_power_mode_default": '"B"'},
            "jetson",
            "'B' is not among",
        ),
    ],
)
def test_wrong_facts_are_named(tmp_path, facts, family, says):
    with pytest.raises(ProfileError, match=r"mine\.toml:") as caught:
        load_profile(write(tmp_path, facts, family=family))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["value", "source", "mark"])
def test_a_fact_needs_value_source_and_mark(tmp_path, key):
    whole = {"value": '["int8"]', "source": '"s"', "mark": '"confirmed"'}
    fact = ", ".join(f"{name} = {value}" for name, value in whole.items() if name != key)
    path = write(tmp_path, {"formats": '["tflite"]'}, head=f"precisions = {{ {fact} }}")
    with pytest.raises(ProfileError, match=f"precisions.{key}"):
        load_profile(path)


@pytest.mark.parametrize(
    "content", [b"", b"name = ", b"\xff\xfe", b"a = 1\n" * 20_000, b"[" * 5000, b"name = 1"]
)
def test_what_is_no_profile_gets_one_line(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=r"mine\.toml"):
        load_profile(path)


def test_a_file_under_another_name_is_refused(tmp_path):
    with pytest.raises(ProfileError, match="name is 'other'"):
        load_profile(write(tmp_path, MINIMAL, name="other"))


@pytest.mark.parametrize("path", ["absent.toml", "no/such/folder", "../profiles/x86"])
def test_absent_files_are_told(tmp_path, path):
    with pytest.raises(ProfileError):
        load_profile(tmp_path / path)


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(ProfileError, match="did you mean 'jetson-orin-nano-8gb'"):
        load_profile("jetson-orin-nano-8")


@pytest.mark.parametrize("name", ["", "nonsense", "..", "x86\0", "jetson*"])
def test_names_that_are_none(name):
    with pytest.raises(ProfileError):
        load_profile(name)


def test_profiles_are_frozen():
    with pytest.raises(ValueError, match="frozen"):
        load_profile("x86").name = "y"


@pytest.mark.parametrize(
    ("sm", "has", "lacks"),
    [
        (53, "float16", "int8"),
        (61, "int8", "float16"),
        (62, "float16", "int8"),
        (72, "int8", "int4"),
        (86, "int4", "float8"),
        (87, "int4", "float8"),
        (89, "float8", "float4"),
        (110, "float4", ""),
        (120, "float4", ""),
    ],
)
def test_precisions_follow_the_compute_capability(sm, has, lacks):
    assert has in precisions_of_sm(sm)
    assert lacks not in precisions_of_sm(sm)


@pytest.mark.parametrize(
    ("compatible", "board", "arch", "gpu", "name"),
    [
        (
            ["nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234"],
            "",
            "aarch64",
            False,
            "jetson-orin-nano-8gb",
        ),
        (["nvidia,p3737-0000+p3701-0004", "nvidia,tegra234"], "", "aarch64", True, "jetson-agx-orin-32gb"),
        (["nvidia,p3449-0000-b00+p3448-0000-b00"], "", "aarch64", False, "jetson-nano"),
        (["raspberrypi,5-model-b"], "Raspberry Pi 5 Model B Rev 1.0", "aarch64", False, "raspberry-pi-5"),
        ([], "Dell Inc. OptiPlex", "x86_64", False, "x86"),
        ([], "", "x86_64", True, "x86-nvidia"),
        (["nvidia,p9999-0000"], "Jetson of tomorrow", "aarch64", False, None),
        ([], "", "riscv64", False, None),
    ],
)
def test_a_machine_finds_its_profile(compatible, board, arch, gpu, name):
    found = match_profile(list_profiles(), compatible=compatible, board=board, arch=arch, nvidia_gpu=gpu)
    assert (found.name if found else None) == name


def test_names_are_sorted_and_known():
    assert list(profile_names()) == sorted(profile_names())
