"""The formats of others: their logs in, our weights and plans out. One file per format, pure; only `imported.py` touches files."""
