"""Candidates for parameters: what they are tried on, and what becomes of them."""
