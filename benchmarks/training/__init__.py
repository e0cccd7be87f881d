"""How a method learns a stream of experiences, and how its λ is chosen."""
