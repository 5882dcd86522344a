"""Measurements of speed and memory, a module each, whose results are single rows of JSON; see `rows.write_row`."""
