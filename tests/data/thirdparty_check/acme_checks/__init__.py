"""Checks for Acme chassis."""
