"""Tasks, and the loop that trains them."""
