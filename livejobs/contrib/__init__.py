"""What a project that comes from another package needs; the engine itself imports nothing of it."""
