"""What runs beside a store for long: the checkpoint daemon and the policy it follows."""
