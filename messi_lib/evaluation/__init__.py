"""Chapter 04: judging images; knows no model."""
