"""From served requests to an exploration log one may learn from."""
