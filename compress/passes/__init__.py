"""Compression passes: what a recipe says of each, and what each does."""
