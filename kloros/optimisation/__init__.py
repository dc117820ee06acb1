"""The optimiser: profile, detect, plan, enact, reflect, within limits."""
