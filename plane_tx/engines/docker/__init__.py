"""Sessions as containers of the Docker Engine on this box."""
