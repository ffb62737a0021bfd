"""Pages, reports and what a reader sees of them."""
