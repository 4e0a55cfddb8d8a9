"""Numbers that all devices agree on: the CPU's code imports them, and kernels get them as text."""

# --- the random stream

# Multipliers and key increments of Philox4x32-10.
PHILOX_M0 = 0xD2511F53
PHILOX_M1 = 0xCD9E8D57
PHILOX_W0 = 0x9E3779B9
PHILOX_W1 = 0xBB67AE85
# Multiplier of PCG64, the generator of NumPy that new tables are drawn by.
PCG64_HIGH = 0x2360ED051FC65DA4
PCG64_LOW = 0x4385DF649FCCF645
# Streams of a seed, and draws of a slot: what the counter of the generator has room for.
MAX_STREAM = 1 << 16
MAX_DRAW = 4 << 16
# The slot whose draws are the keys of an epoch's order; it does not occur in training.
ORDER_SLOT = (1 << 64) - 1
# The draws that a group shares belong to no slot, but to this one plus its number.
GROUP_SLOT = 1 << 63
# Nor do those that decide which occurrences are kept: this one plus the position of the
# item in the packed array, and more for those of the right-hand side where there are two.
KEEP_SLOT = 1 << 62
KEEP_RIGHT_SLOT = KEEP_SLOT + (1 << 61)
# Nor do those that decide which itemsets, or pairs, have the logarithm of their sum penalised: this
# one plus their number.
NORMALIZED_SLOT = GROUP_SLOT + (1 << 62)
# Nor do those that deal out rows to the parts of a partition: this one plus the row's place among
# all by count.
PARTITION_SLOT = GROUP_SLOT + (1 << 61)
# Nor do those that say which updates of hot rows are left out: this one plus the slot of a pair, or
# of a group, has those of its negatives, by their numbers; the other plus that of a pair draw 0 for
# its left row, or the itemset's own, 1 for its positive, and then those of the rows of its bag.
THINNED_SLOT = 1 << 60
THINNED_PAIR_SLOT = THINNED_SLOT + (1 << 59)

# --- pairs

# A 32-bit word is below this threshold, always.
ALWAYS = 0xFFFFFFFF
# Draws that a negative may take until it is not the positive; then any other row is taken.
MAX_REDRAW = 16
# Words of 32 bits draw distances up to a window, whose pairs are counted in 64.
MAX_WINDOW = 1 << 31
# The left row of a pair that was not kept.
DROPPED = -1
# The running loss is that of every so many-th position of an epoch's order, a power of 2, or of
# more of them where an epoch would have a sample of less than this: then its loss would jump.
LOSS_STRIDE = 128
LOSS_SAMPLE = 4096
# Slots whose pairs the CPU draws together, before any of them is trained.
BLOCK = 64

# --- the step

# Targets of a pair that are read together, before one of them is changed.
SPAN = 8
# Pairs of a group whose means are kept at once, from the first of several spans to the last.
MEANS = 8
# Above this no value of a table is meant: one more update, which is of the size of the other
# table's values, would be lost in float32, and products of such values say nothing of a pair.
MAX_VALUE = 1e9
# Keeps the first step of a row by Adagrad finite where its gradient is 0.
EPSILON = 1e-10
