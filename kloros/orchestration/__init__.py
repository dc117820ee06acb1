"""The scheduler, the bus proxy, and the adapter for existing KLoROS code."""
