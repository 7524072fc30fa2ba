"""The main job with nothing else installed: FIFO against ECCOS on local sandbox cores."""
