"""The parts of the architecture: one module each, all of one shape."""
