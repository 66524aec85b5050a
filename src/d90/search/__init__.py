"""Which trials to run next, and d90 from their results. No torch.

As a function, `d90.search(objective, ...)`, it measures d90 of a user's own training
(`d90.experiments.objective.search`).
"""
