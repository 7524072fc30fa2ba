"""The service around the scheduler: outcomes, learning, feedback; it has never heard of AIOS."""
