"""What the ledger writer decides and records."""
