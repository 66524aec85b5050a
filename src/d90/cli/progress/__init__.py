"""What the terminal shows while something runs: live on a terminal, plain lines elsewhere."""
