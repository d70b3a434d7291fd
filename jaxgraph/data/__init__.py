"""Data: assets from package registries, text, numbers, images, live packets, and their batches."""
