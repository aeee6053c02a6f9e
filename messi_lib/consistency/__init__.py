"""Chapter 03: consistency models."""
