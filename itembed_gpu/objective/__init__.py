"""What is trained, whatever the device: options, arrays, random stream, order of an epoch."""
