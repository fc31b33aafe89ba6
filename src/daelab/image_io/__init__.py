"""Reading and writing of picture files."""
