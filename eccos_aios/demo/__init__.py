"""The main job with nothing else installed: FIFO against ECCOS on local sandbox cores."""

from eccos_aios.demo.result import DemoResult
from eccos_aios.demo.run import run_demo

__all__ = ["DemoResult", "run_demo"]
