"""Numbers that all devices agree on: the CPU's code imports them, and kernels get them as text."""

# Streams of a seed, and draws of a slot: what the counter of the generator has room for.
MAX_STREAM = 1 << 16
MAX_DRAW = 4 << 16
# The slot whose draws are the keys of an epoch's order; it does not occur in training.
ORDER_SLOT = (1 << 64) - 1

# A 32-bit word is below this threshold, always.
ALWAYS = 0xFFFFFFFF
# Draws that a negative may take until it is not the positive; then any other row is taken.
MAX_REDRAW = 16
