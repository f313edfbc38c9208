"""Starts launchers on TPU slices."""
