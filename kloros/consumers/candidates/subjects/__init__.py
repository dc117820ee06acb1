"""The modules of the suite whose parameters can be improved."""
