"""CogVideoX: text and video tokens in one self-attention, with modulation per modality."""
