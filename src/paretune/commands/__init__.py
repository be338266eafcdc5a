"""The commands of the command line, one file per stage of the way; `paretune.cli` puts them together."""
