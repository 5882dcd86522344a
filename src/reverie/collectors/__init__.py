"""Steps from environments into transitions: between the updates, or during them.

Start with `collector.Collector`, the interface that the training loop calls, and `sync_collector.SyncCollector`, the
simplest of those that have it. Collectors in other processes are in `reverie.scaling`.
"""
