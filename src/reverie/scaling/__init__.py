"""More than one process: learners that share each batch (`learners`, `shared_update`).

Start with `shared_update.SharedDreamer`, which says what is exchanged in an update.
"""
