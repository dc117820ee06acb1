"""Durable delivery: the journal behind the bus, its server, clients and wire."""
