"""A page that plays a session with the server: ``python3 -m metricsd.walkthrough``."""
