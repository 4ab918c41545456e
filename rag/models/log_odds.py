"""Convert between probabilities and log-odds."""

import math


def logit(probability: float) -> float:
    """Return the log-odds of a probability; those beyond one in a million count as that."""
    bounded = min(max(probability, 1e-6), 1 - 1e-6)
    return math.log(bounded / (1 - bounded))


def sigmoid(log_odds: float) -> float:
    """Return the probability, 0..1, for log-odds."""
    return 1 / (1 + math.exp(-min(50.0, max(-50.0, log_odds))))
