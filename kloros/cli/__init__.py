"""The `kloros` command, one file per noun."""
