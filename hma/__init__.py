"""hma: a health monitoring agent for accelerator clusters."""

__version__ = "0.1.0"
