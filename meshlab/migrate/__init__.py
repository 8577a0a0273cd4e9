"""Move users from older layouts into a store: plan, rehearse, apply, verify, roll back, finish."""
