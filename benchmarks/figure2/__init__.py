"""The properties of Figure 2 of the paper, as tests of a method."""
