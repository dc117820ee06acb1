"""KLoROS: small systemd daemons over one ZeroMQ bus, paced by one scheduler."""

__version__ = "0.1.0"
