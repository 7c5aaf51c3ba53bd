"""``pytest --no-orphans``. The hooks that pytest loads are in pdeathsig/pytest_plugin.py."""
