"""The studio: watch runs and play inside the dream, in a browser.

`session.py` is a game in the dream and beside it, without a browser; `runs.py` reads runs for the pages; `server.py`
serves both, to those whom `access.py` lets in.
"""
