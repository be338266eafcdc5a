"""How to explore: how many rows a question needs, who is explored, and which weights they are shown."""
