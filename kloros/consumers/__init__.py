"""The daemons that work when their trigger is heard."""
