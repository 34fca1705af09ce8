"""The `plane-tx` command line: `pip install plane_tx[cli]`."""
