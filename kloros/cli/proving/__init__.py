"""What `kloros prove` and `kloros why` look at, and what they say."""
