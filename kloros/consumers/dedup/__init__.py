"""How alike questions are, and what is folded into what."""
