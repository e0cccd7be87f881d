"""What the experiments on fact learning share (section 5.3 of the paper)."""
