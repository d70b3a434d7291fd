"""Data: assets from package registries, text, tokenizers, numbers, images, live packets, batches."""
