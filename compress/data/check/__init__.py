"""What is wrong with a data set, found before it is trained on. `run_check` in .run does it all."""
