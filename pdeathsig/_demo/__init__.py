"""``pdeathsig demo``: shows on live processes what a SIGKILL orphans, and what pdeathsig changes."""
