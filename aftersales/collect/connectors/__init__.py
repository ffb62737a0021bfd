"""One connector per kind of channel; it only turns bytes into a raw table of text."""
