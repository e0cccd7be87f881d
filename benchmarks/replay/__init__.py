"""What methods add to a replay memory, where all tasks share a head."""
