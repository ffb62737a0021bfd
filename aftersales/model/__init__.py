"""What the workbench talks about: errors, canonical tables, settings, statistics."""
