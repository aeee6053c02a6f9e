"""Chapter 02: finding people."""
