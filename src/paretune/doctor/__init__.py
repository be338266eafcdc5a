"""What `paretune doctor` looks at: this machine, the servers that were named, a few rows of a log."""
