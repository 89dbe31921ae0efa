"""The causal video autoencoder of CogVideoX."""
