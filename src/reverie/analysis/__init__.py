"""Scores, plots and dreams: reads run folders, never trains."""
