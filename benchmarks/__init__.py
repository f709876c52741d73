"""How fast it is, measured beside what people use today: `python -m benchmarks`."""
