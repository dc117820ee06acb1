"""What a watcher makes of the messages that pass. Pure."""
