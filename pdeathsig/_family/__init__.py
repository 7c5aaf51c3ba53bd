"""The family: what ``PDEATHSIG`` in the environment binds, on and on."""
