"""The tables of a configuration that switch dialects on."""

from pathlib import Path

import pytest

from edgeai.errors import ConfigError
from edgeai.settings_file import parse_settings
from edgeai.sinks.dialects.settings import FrigateSettings, HermesSettings, HomeAssistantSettings
from edgeai.sinks.mqtt.settings import MqttSettings, TlsSettings

MODELS = (FrigateSettings, HermesSettings, HomeAssistantSettings)


def parse(text, model):
    return parse_settings(text.encode(), model, where="device.toml", error=ConfigError)


@pytest.mark.parametrize("model", MODELS)
def test_each_is_complete_when_empty(model):
    assert parse("", model) == model()


def test_all_keys_from_toml():
    frigate = parse(
        'prefix = "site/frigate"\nclient_id = "x"\nusername = "u"\npassword_file = "/p"\nqos = 1\ndetect_size = [640, 480]\n'
        '[tls]\nca = "/ca.pem"\n',
        FrigateSettings,
    )
    assert (frigate.detect_size, frigate.qos, frigate.password_file) == ((640, 480), 1, Path("/p"))
    hermes = parse(
        'site_id = "kitchen"\nwakewords = ["hey_edge"]\nwakeword_id = "default"\nqos = 0\n', HermesSettings
    )
    assert hermes.wakewords == ("hey_edge",)
    assert parse('discovery_prefix = "ha"\ndevice_id = "x"\n', HomeAssistantSettings).discovery_prefix == "ha"


@pytest.mark.parametrize(
    ("text", "model", "said"),
    [
        ('prefx = "x"', FrigateSettings, "did you mean 'prefix'"),
        ('prefix = "a/#"', FrigateSettings, "prefix"),
        ('prefix = ""', FrigateSettings, "prefix"),
        ('prefix = "/a"', FrigateSettings, "is empty"),
        ("qos = 2", FrigateSettings, "qos"),
        ("detect_size = [640]", FrigateSettings, "detect_size"),
        ("detect_size = [0, 480]", FrigateSettings, "detect_size"),
        ('password_file = "/p"', FrigateSettings, "needs username"),
        ('wakeword_id = "a/b"', HermesSettings, "wakeword_id"),
        ("wakewords = [1]", HermesSettings, "wakewords"),
        ('discovery_prefix = "+"', HomeAssistantSettings, "discovery_prefix"),
    ],
)
def test_a_wrong_key_is_one_line_with_its_place(text, model, said):
    with pytest.raises(ConfigError, match=r"^device\.toml(:1)?: ") as caught:
        parse(text, model)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


MQTT = MqttSettings(host="broker", username="cam", password_file=Path("/secret"), tls=TlsSettings())


def test_the_second_connection_has_a_client_id_of_its_own():
    """Two clients with one id throw each other out."""
    made = FrigateSettings().connection(MQTT, device="cam-001")
    assert made == MQTT.model_copy(update={"client_id": "edgeai-default-default-cam-001-frigate"})
    own = MQTT.model_copy(update={"client_id": "mine"})
    assert FrigateSettings().connection(own, device="cam-001").client_id == "mine-frigate"


def test_credentials_are_replaced_together():
    given = FrigateSettings(client_id="f", username="other", tls=TlsSettings(ca=Path("/ca")))
    made = given.connection(MQTT, device="cam-001")
    assert (made.client_id, made.username, made.password_file, made.tls) == ("f", "other", None, given.tls)
