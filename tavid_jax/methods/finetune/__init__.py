"""Fine-tuning of a published text- or image-to-video model: low-rank adapters or all weights."""
