"""FIFO against ECCOS on local sandbox cores, with nothing else installed."""
