"""What `edgeai bench` measures: engines in processes of their own, the machine around them, and what may be concluded."""
