"""What crosses the wire when several processes make one run, and what a thin wire costs it."""
