"""The old timer beside the new signal: what is recorded, and which of the two is right."""
