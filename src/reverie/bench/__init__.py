"""Measurements of speed and memory: one module per benchmark, each returning what one line of JSON holds."""
