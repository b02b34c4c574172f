"""What can be trained: the built-in tasks, a user's data, and a user's own task."""
