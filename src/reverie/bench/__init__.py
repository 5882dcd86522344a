"""Measurements of speed and memory, a module each; `measuring.py` has what they share. Results are rows of JSON."""
