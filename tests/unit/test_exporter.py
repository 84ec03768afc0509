"""What Prometheus is told: names, units, labels, each series once; and what is refused before anything starts."""

from __future__ import annotations

import builtins
import gzip
import json
import logging
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request

import pytest
import yaml
from broker import free_port
from exporter_figures import camera, check_histograms, counters, engine, microphone, samples, scrape, value

from edgeai import __version__
from edgeai.config import MetricsSettings
from edgeai.data import find_data
from edgeai.errors import ConfigError, EdgeError
from edgeai.exporter import Exporter, check_library
from edgeai.exporter.families import Exposition, FiguresCollector


def render(*, streams=(), engines=(), sink=None, device="cam-001"):
    collector = FiguresCollector(
        device=device,
        streams=lambda: streams,
        engines=lambda: engines,
        counters=(lambda: sink) if sink else None,
    )
    return Exposition(collector).render().decode()


@pytest.fixture
def full():
    return render(streams=[camera(), microphone()], engines=[engine()], sink=counters())


@pytest.fixture
def found(full):
    return samples(full)


def test_streams_are_told(found):
    assert value(found, "edgeai_info", version=__version__, device="cam-001", python=_python()) == 1
    assert value(found, "edgeai_stream_up", stream="gate", kind="camera") == 1
    assert value(found, "edgeai_frames_total", stream="gate") == 100
    assert value(found, "edgeai_frames_total", stream="door") == 40
    assert value(found, "edgeai_frames_captured_total", stream="gate") == 170
    assert value(found, "edgeai_frames_dropped_total", stream="gate", reason="no_motion") == 60
    assert value(found, "edgeai_events_total", stream="door") == 2
    assert value(found, "edgeai_events_refused_total", stream="gate") == 1
    assert value(found, "edgeai_slot_age_seconds", stream="gate") == 0.25
    assert value(found, "edgeai_camera_connected", stream="gate") == 1
    assert value(found, "edgeai_camera_connections_total", stream="gate") == 3
    assert value(found, "edgeai_camera_failures_total", stream="gate") == 2
    assert value(found, "edgeai_capture_replacements_total", stream="gate") == 1
    assert value(found, "edgeai_stage_seconds_count", stream="gate", stage="engine") == 1
    assert value(found, "edgeai_capture_to_outbox_seconds_bucket", stream="gate", le="0.005") == 1


def _python():
    import platform

    return platform.python_version()


def test_what_does_not_apply_is_no_series(found):
    assert not [key for key in found if ("stream", "door") in key[1] and "camera" in key[0]]
    assert not [key for key in found if ("stream", "door") in key[1] and "seconds" in key[0]]
    file = samples(render(streams=[camera(connected=None, newest_age_s=None)]))
    assert not [
        name for name, _ in file if name.startswith("edgeai_camera") or name == "edgeai_slot_age_seconds"
    ]
    assert not [name for name, _ in file if name.startswith("edgeai_outbox")]


@pytest.mark.parametrize("state", ["running", "lost", "ended", "failed", "disabled"])
def test_a_stream_is_in_one_state(state):
    found = samples(render(streams=[camera(state=state)]))
    assert value(found, "edgeai_stream_up", stream="gate", kind="camera") == (
        state in ("running", "disabled")
    )
    states = {
        dict(labels)["state"]: number
        for (name, labels), number in found.items()
        if name == "edgeai_stream_state"
    }
    assert {name for name, number in states.items() if number} == {state} and len(states) == 5


def test_the_way_to_the_broker_is_told(found):
    assert value(found, "edgeai_outbox_pending", destination="mqtt") == 3
    assert value(found, "edgeai_outbox_pending", destination="sink:log") == 2
    assert value(found, "edgeai_outbox_bytes") == 500
    assert value(found, "edgeai_outbox_oldest_seconds") == 1.25
    assert value(found, "edgeai_outbox_on_disk") == 1
    assert value(found, "edgeai_outbox_dropped_total", priority="image") == 2
    assert value(found, "edgeai_destination_connected", destination="sink:log") == 0
    assert value(found, "edgeai_destination_acknowledged_total", destination="mqtt") == 8
    assert value(found, "edgeai_destination_refused_total", destination="mqtt") == 1
    assert value(found, "edgeai_capture_to_publish_seconds_count", destination="mqtt", priority="alarm") == 4


def test_histograms_are_cumulative(found):
    assert check_histograms(found) == 8 + 1 + 1 + 1  # stages, whole, engine, publish


def test_the_process_is_told(found):
    assert value(found, "process_cpu_seconds_total") > 0
    assert value(found, "process_resident_memory_bytes") > 1e6


def test_engines_of_one_name_are_one_series():
    found = samples(render(engines=[engine(), engine(workers=2, replaced=1), engine("other")]))
    assert value(found, "edgeai_engine_seconds_count", model="person", engine="tflite") == 2
    assert value(found, "edgeai_engine_workers", model="person", engine="tflite") == 3
    assert value(found, "edgeai_engine_replacements_total", model="person", engine="tflite") == 1
    assert value(found, "edgeai_engine_workers", model="other", engine="tflite") == 1


def test_names_keep_to_the_conventions(full):
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", full, re.MULTILINE))
    for name, kind in kinds.items():
        assert re.fullmatch(r"(edgeai|process)_[a-z_]+", name), name
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert not re.search(r"_(ms|us|kb|mb|count|sum)$", name), name


@pytest.mark.parametrize("name", ['a"b', "a\\b", "a\nedgeai_up 1", "Tür", "{}=,"], ids=range(5))
def test_labels_cannot_forge_a_line(name):
    text = render(engines=[engine(name)])
    assert value(samples(text), "edgeai_engine_workers", model=name, engine="tflite") == 1
    assert "\nedgeai_up" not in text


def test_a_device_that_has_just_begun_tells_of_itself():
    found = samples(render())
    assert [name for name, _ in found if name.startswith("edgeai")] == ["edgeai_info"]


# ---- the files for Prometheus and Grafana -------------------------------------------------------------------------


def _named(expression):
    text = re.sub(r'\{[^}]*\}|"[^"]*"|\[[^\]]*\]', " ", expression)
    text = re.sub(r"\b(by|on)\s*\([^)]*\)", " ", text)
    return set(re.findall(r"\b(?:edgeai|process)_\w+", text))


def _dashboard_expressions():
    board = json.loads(find_data("firmware_configs", "grafana", "edgeai.json").read_text())
    found = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return found + [
        re.sub(r"label_values\((.*), \w+\)", r"\1", each["query"]["query"])
        for each in board["templating"]["list"][1:]
    ]


def _alert_expressions():
    rules = yaml.safe_load(find_data("firmware_configs", "prometheus", "edgeai.rules.yml").read_text())
    return [rule["expr"] for group in rules["groups"] for rule in group["rules"]]


@pytest.mark.parametrize(
    "expressions", [_dashboard_expressions, _alert_expressions], ids=["dashboard", "alerts"]
)
def test_what_is_drawn_and_watched_is_told(expressions, found):
    told = {name for name, _ in found}
    named = set().union(*map(_named, expressions()))
    assert named and named <= told, named - told


@pytest.mark.parametrize(
    "expressions", [_dashboard_expressions, _alert_expressions], ids=["dashboard", "alerts"]
)
def test_labels_that_are_drawn_are_told(expressions, found):
    labels = {}
    for name, of in found:
        labels.setdefault(name, set()).update(key for key, _ in of)
    for expression in expressions():
        for name, inside in re.findall(r"\b((?:edgeai|process)_\w+)\{([^}]*)\}", expression):
            wanted = set(re.findall(r"(\w+)=", inside)) - {"instance", "job"}
            assert wanted <= labels[name], (name, wanted)


def test_the_job_scrapes_where_the_exporter_listens():
    job = yaml.safe_load(find_data("firmware_configs", "prometheus", "prometheus.yml").read_text())
    settings = MetricsSettings()
    assert job["scrape_configs"][0]["static_configs"] == [{"targets": [f"{settings.host}:{settings.port}"]}]


# ---- over HTTP ------------------------------------------------------------------------------------------------------


def exporter(**changes):
    figures = {"streams": lambda: [camera()], "engines": lambda: [engine()], "counters": counters, **changes}
    return Exporter(MetricsSettings(port=free_port()), fresh_s=0.0, **figures)


def test_streams_come_and_go():
    there = [camera("one")]
    with exporter(streams=lambda: there) as opened:
        assert value(samples(scrape(opened.url)), "edgeai_frames_total", stream="one") == 100
        there[:] = [camera("two", frames=3)]
        found = samples(scrape(opened.url))
        assert value(found, "edgeai_frames_total", stream="two") == 3
        assert not [1 for _, labels in found if ("stream", "one") in labels]


def test_figures_that_fail_are_told_as_such_and_the_next_ones_are_not(caplog):
    fail = [True]

    def streams():
        if fail:
            fail.pop()
            raise KeyError("a fault of the program")
        return [camera()]

    with exporter(streams=streams) as opened:
        with pytest.raises(urllib.error.HTTPError) as refused:
            scrape(opened.url)
        assert refused.value.code == 500
        assert "KeyError" not in refused.value.read().decode()
        assert samples(scrape(opened.url))
    assert len([each for each in caplog.records if each.levelno >= logging.ERROR]) == 1


def test_a_dictionary_that_changed_meanwhile_is_read_again():
    failures = [RuntimeError("dictionary changed size during iteration")] * 2

    def streams():
        if failures:
            raise failures.pop()
        return [camera()]

    with exporter(streams=streams) as opened:
        assert value(samples(scrape(opened.url)), "edgeai_frames_total", stream="gate") == 100


def test_who_asks_often_is_answered_from_the_last_time():
    asked = []

    def streams():
        asked.append(1)
        return [camera()]

    made = Exporter(MetricsSettings(port=free_port()), streams=streams, fresh_s=3600)
    with made as opened:
        first = scrape(opened.url)
        assert scrape(opened.url) == first and len(asked) == 1


def test_compressed_for_whom_wants_it():
    with exporter() as opened:
        request = urllib.request.Request(
            opened.url + "/metrics", headers={"Accept-Encoding": "deflate, GZIP;q=0.5"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.headers["Content-Encoding"] == "gzip"
            assert samples(gzip.decompress(answer.read()).decode())
        assert samples(scrape(opened.url, **{"Accept-Encoding": "gzip;q=0"}))


def test_a_library_that_is_missing_is_one_line_with_its_command(monkeypatch):
    real = builtins.__import__

    def absent(name, *rest):
        if name.startswith("prometheus_client"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"prometheus-client.*pip install 'edgeai\[metrics\]'") as told:
        exporter().open()
    assert "\n" not in str(told.value)
    with pytest.raises(ConfigError):
        check_library()


def test_who_has_no_metrics_pays_for_none():
    script = "import sys, edgeai.cli.run; print({'prometheus_client', 'http.server'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "set()"


def test_a_port_that_is_taken_is_one_line():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127.0.0.1 port {port}.*another metrics.port"):
            Exporter(MetricsSettings(port=port), streams=list).open()


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a..b", "203.0.113.7", "x" * 253])
def test_a_host_that_is_none_is_one_line(host):
    with pytest.raises(EdgeError, match="metrics") as told:
        Exporter(MetricsSettings(host=host, port=free_port()), streams=list).open()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", 0), ("localhost", 0), ("0.0.0.0", 1)], ids=str)
def test_a_host_beyond_this_machine_is_warned_of_once(host, warned, caplog):
    with caplog.at_level(logging.INFO), Exporter(MetricsSettings(host=host, port=free_port()), streams=list):
        pass
    warnings = [each.getMessage() for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == warned and all("without a password" in each for each in warnings)


def test_closing_twice_frees_the_port():
    made = exporter()
    made.open()
    made.close()
    made.close()
    made.open()  # the same port again
    assert scrape(made.url, "/healthz") == "ok\n"
    made.close()
