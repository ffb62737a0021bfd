"""Where tables and decisions are kept: Delta store, query engine, register."""
