"""Networks in the formats of other programs: ONNX, PyTorch, NumPy alone, and plain arrays."""
