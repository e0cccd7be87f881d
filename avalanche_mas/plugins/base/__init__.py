"""What the plugins share."""
