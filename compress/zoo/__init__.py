"""The zoo's figures: what its models are measured on, and the tables that are made of what was measured."""
