"""``pdeathsig demo``: what a SIGKILL orphans and what pdeathsig changes, on live processes."""
