"""Simulated worlds with a known truth, and their traffic."""

from paretune.sim.world import open_world

__all__ = ["open_world"]
