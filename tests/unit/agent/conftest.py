"""It stands beside the helpers, so that pytest finds them for the tests in the rooms."""
