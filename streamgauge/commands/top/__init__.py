"""`streamgauge top`: a running stack at a glance, which the demo shows of itself too.

Pure: `flow`, `scraped`, `accuracy`, `replicas`, `picture`, `words`, `view`. `following` asks Kafka, `looking` asks
replicas, and `screen` shows.
"""
