"""Tables and their numbers, as they are printed and saved."""
