"""How each kind of trouble is looked into."""
