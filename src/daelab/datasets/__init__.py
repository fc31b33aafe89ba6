"""Image sets: uint8 pictures with labels, cut into training, validation and test parts."""
