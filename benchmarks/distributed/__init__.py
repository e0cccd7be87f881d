"""Several processes, one Ω: ``torchrun --nproc-per-node 2 -m benchmarks.distributed``.

Split digits are learnt with MAS, with a head for each pair of digits, by all processes together.
Then Ω of all training images is measured twice: by each process alone, and by all together.
"""
