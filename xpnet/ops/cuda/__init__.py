"""CUDA kernels: their sources (``*.cu``), their compilation, and cuBLAS."""
