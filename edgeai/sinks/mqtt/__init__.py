"""The broker: one connection, what it says of itself, what it hears, and how it is made safe."""
