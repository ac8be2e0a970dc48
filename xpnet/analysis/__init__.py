"""What one asks of a network: gradient check, learning rate range, layer statistics, prediction, speed."""
