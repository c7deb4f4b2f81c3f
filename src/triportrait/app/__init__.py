"""Web interface, REST and streaming server."""
