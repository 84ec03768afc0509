import pytest

from edgeai.errors import EdgeError
from edgeai.sinks.topics import ROUTES, TopicError, TopicTree, check_level

TREE = TopicTree("acme", "s1", "cam-001")


def test_the_tree_is_the_documented_one():
    root = "edge/v1/acme/s1/cam-001"
    assert {
        TREE.state, TREE.info, TREE.health, TREE.telemetry("gate"), TREE.event("gate"), TREE.image("gate"),
        TREE.command("reload"), TREE.acknowledgement("7"), TREE.desired_config, TREE.reported_config,
        TREE.update_job, TREE.update_status,
    } == {
        f"{root}/{leaf}"
        for leaf in (
            "state", "info", "health", "telemetry/gate", "event/gate", "image/gate", "cmd/reload", "ack/7",
            "cfg/desired", "cfg/reported", "ota/job", "ota/status",
        )
    }  # fmt: skip


@pytest.mark.parametrize(
    ("priority", "branch", "qos", "retain"),
    [
        ("alarm", "event", 1, False),
        ("event", "event", 1, False),
        ("telemetry", "telemetry", 0, True),
        ("image", "image", 0, False),
    ],
)
def test_each_class_of_event_has_its_branch(priority, branch, qos, retain):
    assert TREE.routed(priority, "gate").split("/")[-2:] == [branch, "gate"]
    assert (ROUTES[priority].qos, ROUTES[priority].retain) == (qos, retain)


@pytest.mark.parametrize(
    "name",
    ["", "a/b", "+", "a#", "nul\0", "tab\t", "$SYS", " a", "a ", "x" * 129, "é" * 65, "\ud800", "del\x7f"],
)
def test_a_name_that_cannot_be_a_level_is_told(name):
    with pytest.raises(TopicError, match=r"stream .* cannot be part of a topic") as caught:
        TREE.event(name)
    assert isinstance(caught.value, EdgeError)
    with pytest.raises(TopicError, match="device"):
        TopicTree("acme", "s1", name)


@pytest.mark.parametrize("name", ["gate", "front door", "cam.1", "ü-1", "x" * 128, "a$"])
def test_ordinary_names_pass(name):
    assert check_level(name, what="stream") == name
