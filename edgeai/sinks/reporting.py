"""All that a configuration reports to, wired: the broker, its other vocabularies, and [[sinks]], from one outbox."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from edgeai.errors import EdgeError, UsageError
from edgeai.sinks.delivery.drain import DrainSettings
from edgeai.sinks.dialects.home_assistant import HomeAssistant, withdraw_home_assistant
from edgeai.sinks.inventory import DeviceFacts
from edgeai.sinks.mqtt.credentials import check_files
from edgeai.sinks.mqtt.native_session import NativeSession
from edgeai.sinks.mqtt.session import Announcement, Inbound, Session, Subscription
from edgeai.sinks.mqtt.settings import MqttSettings
from edgeai.sinks.mqtt.transport import MqttTransport
from edgeai.sinks.other_settings import AnySinkSettings, check_sink_files, open_transport
from edgeai.sinks.outbox import Outbox
from edgeai.sinks.outbox.message import Draft
from edgeai.sinks.payload import Envelope, compose_native, new_boot_id
from edgeai.sinks.reporting_settings import ReportingSettings
from edgeai.sinks.store_and_forward import Compose, Destination, StoreAndForward
from edgeai.sinks.topics import TopicTree
from edgeai.sinks.transport import Transport
from edgeai.types import DEVICE_STREAM, Event, JsonValue, Priority, new_event_id

_log = logging.getLogger(__name__)

LINK_FILE: Final = "link.json"


@dataclass(frozen=True, slots=True)
class Listening:
    """What is heard on the native connection. allow: the commands that are carried out. take_command: as from the
    broker, for other vocabularies' commands. boot_id: of this start, a new one where empty.
    """

    subscriptions: Sequence[Subscription] = ()
    allow: Collection[str] = ()
    take_command: Callable[[Inbound], object] = lambda inbound: None
    boot_id: str = ""


@dataclass(frozen=True, slots=True)
class Reports:
    """What to report to, and what is needed for it.

    facts: the device and its streams; facts.device is the last level of the topics' root. state_dir: for small files that
    outlive a restart. reader_gone: called where nobody reads standard output any more.
    """

    facts: DeviceFacts
    state_dir: Path
    mqtt: ReportingSettings | None = None
    sinks: Sequence[AnySinkSettings] = ()
    drain: DrainSettings = field(default_factory=DrainSettings)
    listening: Listening = field(default_factory=Listening)
    reader_gone: Callable[[], None] | None = None


def check_reports(mqtt: ReportingSettings | None, sinks: Sequence[AnySinkSettings]) -> None:
    """Read the secrets and files that the settings name, and import what they need. Raises ConfigError."""
    if mqtt is not None:
        check_files(mqtt)
        if mqtt.frigate is not None:
            check_files(mqtt.frigate.connection(mqtt, device="device"))
        if mqtt.sparkplug is not None:
            from edgeai.sinks.sparkplug.wire import payload_class

            payload_class()
            check_files(mqtt.sparkplug.broker(mqtt, edge_node_id="device"))
        if mqtt.link is not None and mqtt.link.compress is not None:
            from edgeai.sinks.link.transport import open_compressor

            open_compressor(mqtt.link.compress)
    for sink in sinks:
        check_sink_files(sink)


@dataclass(frozen=True, slots=True)
class OpenReports:
    """sink: not yet open. follow: to be told where streams or rules change while it is open."""

    sink: StoreAndForward
    follow: Callable[[DeviceFacts], None]


def open_reports(reports: Reports, outbox: Outbox) -> OpenReports:
    """What a device reports to. Raises ConfigError for files that cannot be read or a library that is missing,
    TopicError for a device name that cannot be part of a topic, UsageError where there is nothing to report to.
    """
    check_reports(reports.mqtt, reports.sinks)
    mqtt, device = reports.mqtt, reports.facts.device
    topics = TopicTree(mqtt.tenant, mqtt.site, device) if mqtt else TopicTree("default", "default", device)
    boot_id = reports.listening.boot_id or new_boot_id()
    envelope = Envelope(device, boot_id)
    native = compose_native(topics, envelope)
    destinations: list[Destination] = []
    home = None
    if mqtt is not None:
        if mqtt.home_assistant is not None:
            home = HomeAssistant(
                mqtt.home_assistant,
                reports.facts,
                topics,
                reports.state_dir,
                commands=reports.listening.allow,
            )
        destinations.append(_native(mqtt, reports, topics, boot_id, envelope, home))
        if mqtt.frigate is not None:
            destinations.append(_frigate(mqtt, reports, topics))
        if mqtt.sparkplug is not None:
            destinations.append(_sparkplug(mqtt, reports))
    for settings in reports.sinks:
        transport = open_transport(settings, reader_gone=reports.reader_gone)
        compose = _only(settings.wanted, native)
        destinations.append(
            Destination(transport, compose, name=f"sink:{settings.name}", settings=reports.drain)
        )
    if not destinations:
        raise UsageError("there is nothing to report to", next_step="add [mqtt] or [[sinks]]")
    sink = StoreAndForward.to(*destinations, outbox=outbox)
    return OpenReports(sink, lambda facts: _follow(facts, mqtt, home, sink))


def _follow(
    facts: DeviceFacts, mqtt: ReportingSettings | None, home: HomeAssistant | None, sink: StoreAndForward
) -> None:
    if home is not None:
        sink.put(
            [
                Draft(one.topic, one.payload, one.qos, one.retain, "telemetry", DEVICE_STREAM, latest=True)
                for one in home.follow(facts)
            ]
        )
    for name in ("frigate", "sparkplug"):
        if mqtt is not None and getattr(mqtt, name) is not None:
            _log.warning("mqtt.%s: new streams and rules are told there after a restart", name)


def open_carrier(settings: MqttSettings, outbox: Outbox) -> StoreAndForward:
    """Delivers ready messages of `outbox` to a broker, as itself: no birth, no will. For `outbox.put_many`."""
    check_files(settings)
    client_id = settings.client_id or f"edgeai-carrier-{new_event_id()}"
    transport = MqttTransport(settings, client_id=client_id, session=Session())
    return StoreAndForward(transport, outbox, compose=lambda event: ())


def _native(
    mqtt: ReportingSettings,
    reports: Reports,
    topics: TopicTree,
    boot_id: str,
    envelope: Envelope,
    home: HomeAssistant | None,
) -> Destination:
    subscriptions = list(reports.listening.subscriptions)

    def greetings() -> Sequence[Announcement]:
        return home.announcements() if home else withdraw_home_assistant(reports.state_dir)

    if home is not None:
        subscriptions.append(home.subscription())
    session = NativeSession(topics, boot_id, subscriptions=subscriptions, greetings=greetings)
    transport: Transport = MqttTransport(mqtt, client_id=mqtt.id_of(topics.device), session=session)
    compose: Compose = compose_native(
        topics, envelope, thumbnail_px=mqtt.link.thumbnail_px if mqtt.link else None
    )
    drain = reports.drain
    if mqtt.hermes is not None:
        from edgeai.sinks.dialects.hermes import compose_hermes, is_stale_intent

        compose = _both(compose, compose_hermes(mqtt.hermes, device=topics.device))
        drain = replace(drain, is_stale=is_stale_intent)
    gate = None
    if mqtt.link is not None:
        from edgeai.sinks.link.gate import LinkGate, Meter
        from edgeai.sinks.link.transport import LinkTransport

        gate = LinkGate(mqtt.link, Meter(reports.state_dir / LINK_FILE))
        transport = LinkTransport(transport, encoding=mqtt.link.compress, topics=topics, gate=gate)
    return Destination(transport, compose, gate=gate, settings=drain)


def _frigate(mqtt: ReportingSettings, reports: Reports, topics: TopicTree) -> Destination:
    from edgeai.sinks.dialects.frigate import FrigateComposer
    from edgeai.sinks.dialects.frigate_session import FrigateSession

    settings, listening = mqtt.frigate, reports.listening
    if settings is None:
        raise UsageError("frigate is not configured")

    def command(name: str, args: dict[str, JsonValue]) -> None:
        if name not in listening.allow:
            raise UsageError(f"{name} is not allowed here", next_step="add it to commands.allow")
        message = json.dumps({"id": new_event_id(), "args": args}).encode()
        listening.take_command(Inbound(topics.command(name), message))

    composer = FrigateComposer(settings, reports.facts)
    session = FrigateSession(
        settings, reports.facts, command if listening.allow else None, detecting=composer.detecting
    )
    connection = settings.connection(mqtt, device=topics.device)
    transport = MqttTransport(connection, client_id=connection.client_id or "", session=session)
    return Destination(transport, composer, name="frigate", settings=reports.drain)


def _sparkplug(mqtt: ReportingSettings, reports: Reports) -> Destination:
    from edgeai.sinks.sparkplug import SparkplugComposer, SparkplugSession, SparkplugTransport

    settings = mqtt.sparkplug
    if settings is None:
        raise UsageError("sparkplug is not configured")
    composer = SparkplugComposer(settings, reports.facts)
    session = SparkplugSession(composer, state_folder=reports.state_dir)
    connection = settings.broker(mqtt, edge_node_id=settings.edge_node_id or reports.facts.device)
    transport = SparkplugTransport(connection, client_id=connection.client_id or "", session=session)
    return Destination(transport, composer, name="sparkplug", settings=reports.drain)


def _only(wanted: Collection[Priority], compose: Compose) -> Compose:
    return lambda event: compose(event) if event.priority in wanted else ()


def _both(native: Compose, other: Compose) -> Compose:
    """Native messages, and another vocabulary's beside them; a fault of the other costs no event."""
    told: set[str] = set()

    def compose(event: Event) -> Sequence[Draft]:
        drafts = native(event)
        try:
            return [*drafts, *other(event)]
        except EdgeError as error:
            if str(error) not in told and len(told) < 100:
                told.add(str(error))
                _log.error("an event %r of %s: %s", event.type, event.stream, error)
            return drafts

    return compose
