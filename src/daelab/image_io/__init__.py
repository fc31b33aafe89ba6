"""Picture files: what is read from them, and how it is written back."""
