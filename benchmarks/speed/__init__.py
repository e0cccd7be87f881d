"""What exact importance and its penalty cost, in time and memory, beside other ways to them."""
