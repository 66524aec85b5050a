"""What d90 costs, measured side by side with what it is compared to: `python -m benchmarks`."""
