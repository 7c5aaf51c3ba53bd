"""This process as a child: arming it, its parent, its forks and execs."""
