"""The commands of the command line, each with a line of help, and its exit codes."""

from __future__ import annotations

COMMANDS = {
    "train": "Train a network and keep everything about it in a run folder.",
    "runs": "List runs: when, data, network, the settings that differ, figures, and how far each is.",
    "recipes": "List settings that were measured together, and what they reach.",
    "search": "Search settings: train many networks at once, in rounds, with any number of workers.",
    "evaluate": "Evaluate the network of a run: accuracy, overall and by class, and confusion matrix.",
    "predict": "Predict classes and probabilities of images, or of the rows of a table.",
    "export": "Write the network of a run for ONNX runtimes, PyTorch, or NumPy alone.",
    "lr-range": "Suggest learning rates from a short training whose rate rises step by step.",
    "gradcheck": "Check the gradients of a network against central differences, in float64 on the CPU.",
    "reproduce": "Repeat the experiments of five reports and compare the figures.",
    "report": "Write runs, a search or a reproduction as one HTML page, with figures as PNG, SVG and CSV.",
    "diagnose": "Show what happens inside a network, by layer and by epoch.",
    "bench": "Time training on the devices of this machine.",
    "info": "Show versions, BLAS and its threads, GPUs, and extras.",
}
DATA_COMMANDS = {
    "fetch": "Fetch a published data set, check it, and unpack it where xpnet finds it.",
    "info": "Describe a data set: shapes, classes, value ranges, duplicates; samples as a picture.",
}

EXIT_CODES = {
    0: "The command has done what was asked.",
    1: "A check has failed: gradients do not agree.",
    2: "Something that you can put right: an option, a file, a device; one sentence on standard error says what to do.",
    70: "A defect of xpnet; --debug shows where.",
    130: "Ctrl-C has interrupted the command; what it says goes on from there.",
    143: "The same, by SIGTERM.",
}
