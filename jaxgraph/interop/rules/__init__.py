"""One table a system: which of our leaves is which key of the original's state dict."""
