"""What flagprov says: values of `models` as JSON and as text; pure, nothing here reaches a host."""
