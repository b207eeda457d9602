"""One function per check: a verdict on a subject, or None where the check means nothing there."""
