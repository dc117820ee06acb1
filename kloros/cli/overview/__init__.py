"""`kloros top`: the suite on one screen. Knowledge, looks and keys are pure; `session` acts."""
