"""Watching: whether what was true when a policy was chosen is still true."""
