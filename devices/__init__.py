"""Devices: facts about boards and, later, flashing and provisioning them. The facts are in devices/profiles."""
