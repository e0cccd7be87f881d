"""A network that is used for a part of what it has learnt, and then learns on."""
