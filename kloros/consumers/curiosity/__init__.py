"""What curiosity decides."""
