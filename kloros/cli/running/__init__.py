"""`kloros run`: the whole suite in one process, watched."""
