"""What a run has gained, and what it has cost."""
