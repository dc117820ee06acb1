"""The checks of `kloros doctor`."""
