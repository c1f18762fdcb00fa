"""The node: the replicas that are open here, and the work that goes on around them."""
