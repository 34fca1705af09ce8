"""The pure layer: what sessions are and how decisions fall, with no reactor, socket or clock."""
