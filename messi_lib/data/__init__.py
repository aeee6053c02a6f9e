"""Chapter 01: people photos, subject photos and the procedural world."""
