"""The test with users: what arms of a plan earned, read out by user, with the errors that peeking and many numbers leave."""
