"""More than one process: collectors on Ray (`ray_collector`), learners that share each batch (`learners`).

Start with `ray_collector.RayCollector`, which says which weights act when, and with `shared_update.SharedDreamer`,
which says what is exchanged in an update.
"""
