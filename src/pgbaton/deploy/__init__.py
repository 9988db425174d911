"""Make hosts what a blueprint says: plan, show, apply in waves, take back."""
