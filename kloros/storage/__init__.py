"""State on disk. The only room that imports sqlite3."""
