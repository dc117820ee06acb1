"""How the machine feels: from vital signs to a mood, and to signals with a cause."""
