"""What a run showed, told to people and to programs: page, JUnit XML, comparison, text."""
