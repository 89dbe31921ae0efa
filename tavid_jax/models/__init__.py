"""Published architectures: configs, parameters and forward passes, and nothing else."""
