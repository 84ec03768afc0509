"""`edgeai run`: a configuration at work."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from types import FrameType

from edgeai.cli.host import this_host
from edgeai.cli.notify import reloading, starting, stopping, watchdog_pings
from edgeai.cli.reports import device_name, make_sink
from edgeai.cli.strict import StrictWatch, check_strict, strict_cache
from edgeai.clock import Clock, SystemClock
from edgeai.config import Config, LogSettings, MetricsSettings, WatchdogSettings
from edgeai.console import print_json, print_note, print_table
from edgeai.desired import config_to_start, set_aside
from edgeai.errors import EdgeError
from edgeai.executor import EXIT_RESTART, CommandExecutor
from edgeai.exporter import Exporter, figures_of, figures_of_group
from edgeai.health import Health
from edgeai.logs import open_logs
from edgeai.runtime import Runtime
from edgeai.schedule.group import EngineWorker
from edgeai.sinks.commands.gate import CommandGate, ConfigInForce
from edgeai.sinks.commands.journal import CommandJournal
from edgeai.sinks.commands.table import Command
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.payload import new_boot_id
from edgeai.sinks.reporting import Listening
from edgeai.sinks.sink import Sink
from edgeai.sinks.store_and_forward import StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.sources.capture import Capture
from edgeai.store import TotalsStore
from edgeai.stream import StreamReport
from edgeai.watchdog import Watchdog

FLUSH_S = 10.0
# a broker that is not there yet gets so long before the run ends without it
GRACE_S = 1.0


def run_device(path: Path, *, json_output: bool, verify: bool = False, strict: bool = False) -> int:
    """Run until the sources end or a signal comes; 1 where a stream failed, EXIT_RESTART where a command said restart.
    A broker that is down is a warning.

    verify: compare every engine with its bundle's golden outputs before anything runs. strict: no warning is taken, no
    configuration from afar, and no stream's failure (edgeai/cli/strict.py).
    """
    journal = os.environ.get("JOURNAL_STREAM", "")
    with open_logs(LogSettings(), journal_stream=journal):  # for what reading the configuration has to say
        config, in_force = config_to_start(path, read_only=strict)
    with open_logs(config.log, journal_stream=journal):
        return _run(path, config, in_force, json_output=json_output, verify=verify, strict=strict)


def _run(
    path: Path, config: Config, in_force: ConfigInForce, *, json_output: bool, verify: bool, strict: bool
) -> int:
    host = this_host(config.engines, cache=strict_cache(config) if strict else None, verify=verify)
    judge = partial(check_strict, path=path, profile=host.profile) if strict else _take_any
    judge(config)
    clock = SystemClock()
    orders: SimpleQueue[Command] = SimpleQueue()
    gate, listening = _make_gate(config, orders, clock, lambda draft: _put(sink, draft))
    sink, follow = make_sink(config, listening=listening, reader_gone=lambda: runtime.lose_reader())  # noqa: PLW0108 (it comes later)
    # without an outbox nothing is kept, and no folder is made
    keeps = isinstance(sink, StoreAndForward)
    totals = TotalsStore(config.state_dir / "totals.db" if keeps else None)
    runtime = Runtime(config, sink, host=host, totals=totals)
    executor = CommandExecutor(
        runtime,
        gate,
        orders,
        config=config,
        path=path,
        in_force=in_force,
        clock=clock,
        read_only=strict,
        check=judge,
        reloading=reloading,
    )
    watch = StrictWatch(runtime) if strict else None
    if watch is not None:
        runtime.add_chore(watch.step)
    runtime.add_chore(executor.step)
    runtime.add_chore(_on_change(lambda: executor.config, follow))
    health = _health(config, runtime, sink, clock)
    if health is not None:
        runtime.add_chore(health.step)
    with ExitStack() as stack:
        stack.enter_context(_on_signals(runtime, executor))
        stack.enter_context(totals)
        if config.metrics is not None:
            stack.enter_context(_exporter(config, config.metrics, runtime, sink))
        # only when all of it is open is a service manager told that this is ready: a plan may be built, a large outbox read
        with starting("loading models, opening the outbox"):
            with _judging(config, in_force):
                stack.enter_context(runtime)
            stack.enter_context(gate or nullcontext())
            stack.enter_context(sink)
            if gate is not None:
                gate.catch_up()
                gate.report_config(in_force)
        naming = watch.naming_all() if watch is not None else nullcontext()
        with _judging(config, in_force), naming, _watched(runtime, config.watchdog):
            reports = runtime.run()
        stopping()
        executor.close()
        if health is not None:
            health.close()
        waiting = _deliver_rest(sink) if isinstance(sink, StoreAndForward) else 0
    if runtime.reader_gone:
        return 0
    _tell(reports, waiting, json_output=json_output, table_to_stderr=_uses_stdout(config))
    if watch is not None and watch.faults:
        watch.tell()
        return 1
    if executor.restart_wanted:
        return EXIT_RESTART
    return 1 if any(report.failed for report in reports) else 0


def _take_any(config: Config) -> None:
    """What is not strict takes whatever can be read."""


@contextmanager
def _judging(config: Config, in_force: ConfigInForce) -> Iterator[None]:
    """A desired configuration with which nothing can run is set aside: the next start takes the file, so that nobody
    locks himself out from afar.
    """
    try:
        yield
    except EdgeError as error:
        if in_force.version:
            set_aside(config, str(error))
        raise


def _health(config: Config, runtime: Runtime, sink: Sink, clock: Clock) -> Health | None:
    if not config.health.enabled or (config.mqtt is None and "health" not in config.model_fields_set):
        return None
    counters = (lambda: sink.counters) if isinstance(sink, StoreAndForward) else None
    return Health(
        config.health,
        streams=lambda: runtime.streams,
        state=runtime.state,
        send=runtime.tell,
        counters=counters,
        folder=config.state_dir,
        clock=clock,
    )


def _exporter(config: Config, settings: MetricsSettings, runtime: Runtime, sink: Sink) -> Exporter:
    return Exporter(
        settings,
        streams=lambda: [figures_of(each, runtime.state(each)) for each in runtime.streams],
        engines=lambda: [figures_of_group(group) for group in runtime.groups],
        counters=(lambda: sink.counters) if isinstance(sink, StoreAndForward) else None,
        device=device_name(config),
    )


@contextmanager
def _watched(runtime: Runtime, settings: WatchdogSettings) -> Iterator[None]:
    """What hangs is replaced, and the service manager hears that all is well, as long as it is."""
    dog: Watchdog[Capture | EngineWorker] = Watchdog(
        settings, watched=runtime.watched, replaced=runtime.report_replaced, alive=watchdog_pings()
    )
    runtime.heart = dog.beat
    with dog:
        yield


def _on_change(config: Callable[[], Config], follow: Callable[[Config], None]) -> Callable[[], None]:
    """A chore that tells of another configuration."""
    told = config()

    def chore() -> None:
        nonlocal told
        if config() is not told:
            told = config()
            try:
                follow(told)
            except EdgeError as error:
                logging.getLogger("edgeai").error("%s", error)

    return chore


def _put(sink: Sink, draft: Draft) -> None:
    if isinstance(sink, StoreAndForward):
        sink.put((draft,))


def _make_gate(
    config: Config, orders: SimpleQueue[Command], clock: Clock, reply: Callable[[Draft], object]
) -> tuple[CommandGate | None, Listening]:
    """What hears the broker's commands, and how it is heard; None without a broker."""
    mqtt = config.mqtt
    if mqtt is None:
        return None, Listening()
    gate = CommandGate(
        TopicTree(mqtt.tenant, mqtt.site, device_name(config)),
        config.commands,
        CommandJournal(config.state_dir / "commands.db"),
        boot_id=(boot_id := new_boot_id()),
        clock=clock,
        submit=orders.put,
        reply=reply,
    )
    return gate, Listening(gate.subscriptions(), config.commands.allow, gate.take_command, boot_id)


def _uses_stdout(config: Config) -> bool:
    return (config.mqtt is None and not config.sinks) or any(sink.kind == "stdout" for sink in config.sinks)


def _deliver_rest(sink: StoreAndForward) -> int:
    """Wait for what is still on its way, FLUSH_S at most and only while there is a connection; what waits after it."""
    began_s = time.monotonic()
    while not sink.flush(0.2):
        gone_s = time.monotonic() - began_s
        if gone_s < GRACE_S:
            continue
        counters = sink.counters
        waiting = [one for one in counters.destinations.values() if one.pending]
        if waiting and (gone_s >= FLUSH_S or not any(one.connected for one in waiting)):
            problem = next((one.problem for one in waiting if one.problem), "still sending")
            print_note(
                f"edgeai: warning: {counters.pending} messages wait in the outbox for the next run ({problem})"
            )
            return counters.pending
    return 0


@contextmanager
def _on_signals(runtime: Runtime, executor: CommandExecutor) -> Iterator[None]:
    """SIGTERM and the first Ctrl-C end the run in order; a second Ctrl-C ends it at once. SIGHUP reloads."""

    def stop(number: int, frame: FrameType | None) -> None:
        runtime.stop()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def reload(number: int, frame: FrameType | None) -> None:
        executor.ask_reload()

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _tell(reports: list[StreamReport], waiting: int, *, json_output: bool, table_to_stderr: bool) -> None:
    if json_output:
        print_json({"streams": [asdict(report) for report in reports], "waiting": waiting})
        return
    rows = [
        [
            each.name,
            each.frames,
            each.dropped,
            each.events,
            each.refused,
            "failed" if each.failed else "ended",
        ]
        for each in reports
    ]
    print_table(
        ["stream", "frames", "dropped", "events", "refused", "state"], rows, to_stderr=table_to_stderr
    )
    for each in reports:
        still = each.left_out.get("no_motion", 0)
        if isinstance(still, int) and still:
            part = still / (still + each.frames)
            print_note(
                f"{each.name}: nothing moved on {still} frames ({part:.0%}), which spared the model about {each.spared_s:.1f} s"
            )
