"""Each scanner looks at one source of the machine and says what it sees wrong."""
