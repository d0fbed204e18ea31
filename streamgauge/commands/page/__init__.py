"""The web page: try the stream out, label what it said, and watch how it does. What `streamgauge app` serves.

Streamlit calls the views again and again, each session in a thread of its own. All that concerns Kafka is on one event
loop, which all sessions share: `desk.py` is where the two meet.
"""
