"""Starting runs elsewhere: `python -m launch tpu|gke|slurm|gpu|colab --help`. Needs only Python."""
