"""The launchers' programs compiled for TPU slices on a host without one, and read."""
