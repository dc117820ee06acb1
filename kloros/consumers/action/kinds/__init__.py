"""What may be done: one small class for each kind of action, and no other way to do anything."""
