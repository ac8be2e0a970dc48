"""Analyses of a network: gradient check, learning rate range, layer statistics, prediction, speed."""
