"""What the user wants: the topology file, its rules, its presets and its budget."""
