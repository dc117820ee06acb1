"""What the machine tells of itself: systemd, the journal, pressure, control groups, processes. Read only."""
