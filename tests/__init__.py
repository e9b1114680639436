"""Tests of hma; the rooms mirror those of the package."""
