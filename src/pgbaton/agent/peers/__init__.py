"""The agents among each other: what they tell, how it travels, and who answers an echo."""
