"""Chapter 05: filling a hole in a photo."""
