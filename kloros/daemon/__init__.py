"""What every process shares: loop, base, runner, fallback, maintenance, notify."""
