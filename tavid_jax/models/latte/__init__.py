"""Latte-style transformers on dense track fields: VAE, latent flow and visibility head."""
