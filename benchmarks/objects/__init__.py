"""What the object recognition experiments share."""
