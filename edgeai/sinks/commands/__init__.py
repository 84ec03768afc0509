"""What a device can be told over MQTT: who may, what, until when, and once only."""
