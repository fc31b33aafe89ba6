"""Denoising of pictures of any size, from arrays or files, one or many."""
