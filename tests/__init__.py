"""The tests of clipax."""
