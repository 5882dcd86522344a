"""Steps from environments into transitions: between the updates, or during them.

Start with `sync_collector.SyncCollector`, whose `step` is what the training loop calls.
"""
