"""What is looked at, and what it means."""
