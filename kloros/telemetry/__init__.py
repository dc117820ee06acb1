"""What the suite says of itself: structured logs and Prometheus metrics."""
