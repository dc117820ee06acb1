"""What the historian keeps, folds and counts."""
