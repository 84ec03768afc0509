"""Which channels of a network belong together, what they cost, and the network without some of them."""
