"""The catalogue in the terminal: the command `clipax methods`."""
