"""The control listener: the HTTP API through which apps ask for sessions."""
