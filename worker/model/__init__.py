"""What scores texts: the scorer that the stream asks, and the model directory that it is read from."""
