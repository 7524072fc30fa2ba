"""The main job with nothing else installed: FIFO against ECCOS on local sandbox cores."""

from eccos_aios.demo.recorded import recorded_scenario
from eccos_aios.demo.result import DemoResult
from eccos_aios.demo.run import run_demo
from eccos_aios.demo.scenario import Scenario, generated_scenario

__all__ = ["DemoResult", "Scenario", "generated_scenario", "recorded_scenario", "run_demo"]
