"""What runs sessions: the engine interface and the engines that provide it."""
