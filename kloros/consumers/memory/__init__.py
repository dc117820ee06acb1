"""What is remembered, and how it fades."""
