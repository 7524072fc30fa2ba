"""The service around the scheduler: configuration, outcomes, learning, feedback; knows nothing of AIOS."""
