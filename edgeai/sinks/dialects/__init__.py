"""Other vocabularies for the same events: Frigate's topics, Hermes, Home Assistant's discovery."""
