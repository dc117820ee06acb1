"""What may be done, and what came of it."""
