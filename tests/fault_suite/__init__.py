"""What becomes of events when links, brokers, processes, disks and clocks fail: counted against real parts, beside plain paho.

Run: PYTHONPATH=tests python -m fault_suite, or make fault-suite. To add a fault: one function that takes a Stand and
yields Rows, and one line in `fault_suite.table.FAULTS`.
"""
