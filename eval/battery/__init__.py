"""The battery: one set of inputs, and from it what every head does by the head classes of the literature."""
