"""Speed and memory beside named peers: `python -m benchmarks` measures, `docs/benchmarks.md` shows the results."""
