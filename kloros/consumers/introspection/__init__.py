"""What introspection decides, and what it looks at."""
