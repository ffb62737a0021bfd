"""The after-sales workbench."""
