"""YAML that people write: read so that every value knows its line, and checked against a model."""
