"""What carries out, each in its own turn: it looks, has it decided, and acts."""
