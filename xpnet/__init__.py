"""xpnet: fast, verified fully connected classifiers on NVIDIA GPUs and CPUs."""

__version__ = "0.1.0"
