"""Real data: assets from package registries, text, tokenizers and the grain pipeline."""
