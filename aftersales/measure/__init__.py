"""What the number is: the metric dictionary, exposure, and the engine that computes both."""
