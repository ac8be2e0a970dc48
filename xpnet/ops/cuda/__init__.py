"""CUDA kernels: their sources (``*.cu``), what compiles them, and cuBLAS."""
