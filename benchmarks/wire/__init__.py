"""Communication of one run on several processes, and its speed over a slow link."""
