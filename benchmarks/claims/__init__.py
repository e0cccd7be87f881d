"""Every claim of the paper, beside what the experiments have measured, with a verdict."""
