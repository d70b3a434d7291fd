"""Weights and tokenizers from files: Hugging Face folders, GGUF, glassllm's archive."""
