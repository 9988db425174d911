"""What decides: pure, from what is known and the time as an argument to what is to be done."""
