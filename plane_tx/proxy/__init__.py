"""The proxy listener: carries HTTP and WebSocket between browsers and their sessions."""
