"""Where the number comes from: Pareto, failure rates by dimension, drill-down with exposure."""
