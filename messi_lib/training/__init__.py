"""The training engine of chapters 02, 03, 05 and 06: loop, checkpoints, averages; knows no chapter.

A chapter hands `loop.train` a network, a loss and batches by position. A run that stops goes on by
the same command and gives the same weights, on any number of processes (`distributed`). `budget`
and `memory` say beforehand what it takes; `ema` averages the weights (Karras et al. 2024, "EDM2",
arXiv 2312.02696).
"""
